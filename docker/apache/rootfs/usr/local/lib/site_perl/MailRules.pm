# The Sieve script that the page at /account/ writes for a person, and a client of ManageSieve, by which it gets there with the person's
# own login. The script answers while the person is away, and sends mail on. It runs the script that the person has made with a mail
# program, too, and becomes inactive when the form is empty.
package MailRules;

use strict;
use warnings;
use IPC::Open2 ();
use MIME::Base64 ();
use Mojo::JSON  ();
use Mojo::Util  ();

my $NAME    = "Account page";
my $MARK    = "# https://DOMAIN/account/ writes this script anew from its form: ";
my $seconds = 10;    # for a whole conversation

# Returns the text of a script for what the form says.
sub script {
    my ($form) = @_;
    my $quoted = sub { '"' . shift =~ s/(["\\])/\\$1/gr . '"' };
    my @lines  = ($MARK . Mojo::JSON::to_json($form), 'require ["copy", "date", "include", "relational", "vacation"];');
    if ($form->{away}) {
        my $subject = length $form->{subject} ? " :subject " . $quoted->($form->{subject}) : "";
        my @days    = (["ge", $form->{first}], ["le", $form->{last}]);
        my @tests   = map { qq{currentdate :value "$_->[0]" "date" "$_->[1]"} } grep { length $_->[1] } @days;
        my $answer  = "vacation :days 7$subject " . $quoted->($form->{text}) . ";";
        push @lines, @tests ? "if allof(" . join(", ", @tests, "true") . ") {\n$answer\n}" : $answer;
    }
    my $copy = $form->{copy} ? ":copy " : "";
    push @lines, map { "redirect $copy" . $quoted->($_) . ";" } @{$form->{forward}};
    push @lines, "include :personal :optional " . $quoted->($form->{own}) . ";" if length $form->{own};
    return Mojo::Util::encode("UTF-8", join "", map { s/\r?\n/\r\n/gr . "\r\n" } @lines);
}

# Connects, and logs in. The certificate must be the pod's own: the port is above 1023, so any process of the pod could take it while
# Dovecot is away. Dies if there is no ManageSieve, or for a wrong login.
sub _connect {
    my ($self, $login, $password) = @_;
    my $host = $ENV{MAIL_HOST};
    # s_client would write to the log what it does. (Its faults show in that there is no answer.)
    $self->{process} = IPC::Open2::open2(
        $self->{from}, $self->{to}, "sh", "-c", 'exec "$@" 2>/dev/null', qw(sh openssl s_client -quiet -verify_quiet -verify_return_error -partial_chain -starttls sieve),
        "-CAfile", "/run/tls/tls.crt", "-verify_hostname", $host, "-connect", "$host:4190"
    );
    binmode $_ for @$self{"from", "to"};
    $self->{to}->autoflush(1);
    $self->_answer;
    $self->_say('AUTHENTICATE "PLAIN" "' . MIME::Base64::encode_base64("\0$login\0$password", "") . '"');
}

# Runs code with a conversation, within the time for it. Dies if that is over, or if the server refuses something.
sub with {
    my ($class, $login, $password, $code) = @_;
    my $self = bless {}, $class;
    my $found = eval {
        local $SIG{ALRM} = sub { die "no answer within $seconds s\n" };
        local $SIG{PIPE} = "IGNORE";
        alarm $seconds;
        $self->_connect($login, $password);
        my $done = $code->($self);
        alarm 0;
        $done;
    };
    my $error = $@;
    alarm 0;
    if ($self->{process}) {
        close $_ for @$self{"to", "from"};
        kill TERM => $self->{process};
        waitpid $self->{process}, 0;
    }
    die $error if $error;
    return $found;
}

sub _line {
    my ($self) = @_;
    my $line = readline $self->{from};
    die "the mail service has ended the connection\n" if !defined $line;
    return $line =~ s/\r?\n\z//r;
}

# Returns the lines of an answer until its OK, with literals in the place of their length. Dies for NO and BYE.
sub _answer {
    my ($self) = @_;
    my @lines;
    for (;;) {
        my $line = $self->_line;
        if ($line =~ /^\{(\d+)\}$/) {
            my $size = $1;
            (read($self->{from}, my $literal, $size) // 0) == $size or die "the mail service has ended the connection\n";
            push @lines, [$literal, $self->_line];
        }
        elsif ($line =~ /^OK\b/i) { return @lines }
        elsif ($line =~ /^(NO|BYE)\b/i) { die "$line\n" }
        elsif ($line =~ /^"((?:[^"\\]|\\.)*)"(.*)/) { push @lines, [$1 =~ s/\\(.)/$1/gr, $2] }
        else                                        { push @lines, [$line, ""] }
    }
}

sub _say {
    my ($self, $line) = @_;
    print {$self->{to}} "$line\r\n" or die "the mail service has ended the connection\n";
    return $self->_answer;
}

sub _quoted { '"' . Mojo::Util::encode("UTF-8", $_[0]) =~ s/(["\\])/\\$1/gr . '"' }

# Returns what the form shows: its last content while its script is active, and as `own` the script of a mail program that is active.
sub form {
    my ($self) = @_;
    my (%there, $active);
    for ($self->_say("LISTSCRIPTS")) {
        my $name = Mojo::Util::decode("UTF-8", $_->[0]) // next;
        $there{$name} = 1;
        $active = $name if $_->[1] =~ /ACTIVE/i;
    }
    my $form = {away => 0, subject => "", text => "", first => "", last => "", forward => [], copy => 1, own => ""};
    if ($there{$NAME}) {
        my ($script) = map { $_->[0] } $self->_say("GETSCRIPT " . _quoted($NAME));
        my $line = Mojo::Util::decode("UTF-8", $script) // "";
        my $kept = $line =~ /^\Q$MARK\E(\{.*\})/ && eval { Mojo::JSON::from_json($1) };
        die qq{there is a script "$NAME" that this page has not written: give it another name in your mail program\n} if !$kept;
        $form = {%$form, %$kept} if ($active // "") eq $NAME;
        $form->{own} = "" if !$there{$form->{own}};
    }
    $form->{own}   = $active if ($active // $NAME) ne $NAME;
    $form->{there} = $there{$NAME};
    return $form;
}

# Makes what a form says the rules. Dies if the mail service refuses them.
sub save {
    my ($self, $form) = @_;
    my $before = $self->form;
    $form = {%$form, own => $before->{own}};
    if ($form->{away} || @{$form->{forward}}) {
        my $script = script($form);
        $self->_say("PUTSCRIPT " . _quoted($NAME) . " {" . length($script) . "+}\r\n$script");
        $self->_say("SETACTIVE " . _quoted($NAME));
    }
    elsif ($before->{there}) {
        $self->_say("SETACTIVE " . _quoted($before->{own}));
        $self->_say("DELETESCRIPT " . _quoted($NAME));
    }
}

1;
