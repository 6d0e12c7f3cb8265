# How this GitWeb differs from upstream's: the begin and end of a request, and replaced subroutines. /etc/gitweb.conf reads this file.

# (The bench compares with plain CGI, where a process has one request.)
my $answered = 0;
our ($CGI, $requests, $processor_time);
our $is_last_request = sub { ++$answered >= $requests || (times)[0] + (times)[1] > $processor_time } if $CGI eq "CGI::Fast";

# The programs that GitWeb starts get an environment built from nothing: the variables of the request that GitWeb reads, whose names
# mean nothing to those programs, and fixed ones. The settings override those of a repository.
my $build_environment = sub {
    my @read = qw(DOMAIN REMOTE_USER REQUEST_METHOD REQUEST_URI QUERY_STRING PATH_INFO SCRIPT_NAME SCRIPT_FILENAME SERVER_NAME
        SERVER_PORT SERVER_PROTOCOL GATEWAY_INTERFACE HTTPS HTTP_HOST HTTP_ACCEPT HTTP_IF_MODIFIED_SINCE);
    %ENV = (
        map({ $_ => $ENV{$_} } grep { defined $ENV{$_} } @read),
        PATH               => "/usr/bin:/bin",
        GIT_CONFIG_COUNT   => 2,
        GIT_CONFIG_KEY_0   => "core.hooksPath",
        GIT_CONFIG_VALUE_0 => "/dev/null",
        GIT_CONFIG_KEY_1   => "core.alternateRefsCommand",
        GIT_CONFIG_VALUE_1 => "true",
    );
};
$build_environment->();

# When the time of a request is over, its programs are ended, and the page says that it is incomplete. If nothing has been sent yet, or
# if the answer is saved as a file, the worker is killed too: the client sees that the answer is broken. The worker is killed in any
# case five seconds later.
use POSIX ();
our ($page_time, $download_time);
my ($late, $sent, $saved, $page);
setpgrp;
my $end     = sub { kill KILL => -$$ };
my $give_up = sub {
    $end->() if $saved || !$sent;
    $late = 1;
    local $SIG{TERM} = "IGNORE";
    kill TERM => -$$;
    $SIG{ALRM} = $end;
    alarm 5;
};

# Error output of those programs goes through Apache, which escapes it and names the request's client.
open my $said, "+>", undef or die $!;
POSIX::dup2(fileno $said, 2);
my $silent = sub { sysseek($said, 0, 1) eq "0 but true" };
my $tell   = sub {
    return "" if $silent->();
    sysseek $said, 0, 0;
    sysread $said, my $text, 4000;
    truncate $said, 0;
    sysseek $said, 0, 0;
    print STDERR $text =~ s/[^\n -~]/?/gr;
    return $text;
};
our $post_dispatch_hook;
my $finish = $post_dispatch_hook;
$post_dispatch_hook = sub {
    my $short = $tell->() =~ /out of memory/i;
    print qq{<div class="page_body">This page is incomplete: it takes more than $page_time seconds, or 128 MB.</div>}
        if ($late || $short) && !$saved;
    alarm 0;
    $finish->() if $finish;
};

our $per_request_config = sub {
    $build_environment->();
    ($late, $sent, $saved, $page) = ();
    $SIG{ALRM} = $give_up;
    alarm $page_time;
    # GitWeb keeps the values of the last request until it has read those of the next. An error before that would show or read the
    # repository of another visitor.
    our $git_dir = "";
    our ($project, $action, $file_name, $file_parent, $hash, $hash_parent, $hash_base, $hash_parent_base,
        $project_filter, $searchtext, $search_regexp) = ();
    keys our %known_snapshot_formats;

    # GitWeb passes the text of a search to git unchanged. It must not be an option of git, nor a regular expression, which can be
    # written to take a gigabyte of memory.
    our $cgi;
    $cgi->param("s", $1) if ($cgi->param("s") // "") =~ /^-+(.*)/s;
    $cgi->delete("sr");

    # A line break in a name would begin a new line of a header or of the log.
    our $path_info;
    die_error(404, "No such name") if grep { /[\0-\x08\n-\x1f\x7f]/ } $path_info // "", map { $cgi->multi_param($_) } $cgi->param;

    # The link to log in (podserve/git.conf) carries the page to return to: what follows /git/ in its address.
    our @extra_breadcrumbs = ([$ENV{DOMAIN}, "/"]);
    if (!$ENV{REMOTE_USER}) {
        my ($back) = ($ENV{REQUEST_URI} // "") =~ m{^/git/([^"<>#]*)};
        push @extra_breadcrumbs, ["log in", "/git/login?" . ($back // "")];
    }
};

# Replaced subroutines of GitWeb's.
no warnings qw(exiting redefine);

# A stranger gets the same answer for a private repository as for none: log in. After an error the worker goes on with the next
# request; GitWeb would end it.
my $die_error = \&die_error;
*die_error = sub {
    my ($status, $error, $detail, %options) = @_;
    if (($status // 0) == 404 && !defined $project && !$ENV{REMOTE_USER}) {
        print $cgi->header(
            -status           => "401 Unauthorized",
            -type             => "text/plain",
            -www_authenticate => 'Basic realm="PodServe", charset="UTF-8"'
        ), "Log in to see this, if it exists.\n";
    } elsif (($error // "") eq "No projects found" && !defined $project_filter) {
        git_header_html();
        print '<div class="page_body">No repositories yet. Add one: <code>invoke repos.add NAME</code></div>';
        git_footer_html();
    } else {
        $die_error->($status, $error, $detail, %options, -error_handler => 1);
    }
    return if $options{-error_handler};
    $first_request = 0;
    $post_dispatch_hook->() if our $post_dispatch_hook;
    next REQUEST;
};

# The name of a commit must not be an option of git either: git would write to the FILE of --output=FILE.
my $is_valid_refname = \&is_valid_refname;
*is_valid_refname = sub { ($_[0] // "") !~ /^-/ && $is_valid_refname->(@_) };

# These answers are saved as files, and some may take longer than a page.
for my $action (qw(blame_data blob_plain blobdiff_plain commitdiff_plain patch patches snapshot)) {
    my $send = $actions{$action};
    no strict "refs";
    *{"git_$action"} = $actions{$action} = sub {
        $saved = 1;
        alarm $download_time if $action =~ /blob_plain|snapshot/;
        $send->(@_);
    };
}

# A request ends when its client has closed the connection.
my $print = \&FCGI::Stream::PRINT;
*FCGI::Stream::PRINT = sub {
    $sent = 1;
    $page .= join "", @_[1 .. $#_] if defined $page;
    undef $page if length($page // "") > 500_000;
    $print->(@_) or $end->();
};

# The name under which a browser saves a file: https://www.rfc-editor.org/rfc/rfc6266
my $header = \&CGI::header;
*CGI::header = sub {
    my ($self, @words) = @_;
    for (grep { defined } @words) {
        my ($how, $name) = /^(inline|attachment); filename="(.*)"\z/s or next;
        my $plain = $name =~ s/[^ -~]/_/gr =~ s/(["\\])/\\$1/gr;
        $_ = qq{$how; filename="$plain"};
        utf8::encode($name);
        $_ .= "; filename*=UTF-8''" . $name =~ s/([^A-Za-z0-9._-])/sprintf "%%%02X", ord $1/ger if $name =~ /[^ -~]/;
    }
    return $self->$header(@words);
};
*CGI::checkbox = sub { "" };

# The address to return to after the login is escaped already.
my $esc_url = \&esc_url;
*esc_url = sub { $_[0] =~ m{^/git/login\?} ? $_[0] : $esc_url->(@_) };

# The address to clone from is a link, too.
my $format_repo_url = \&format_repo_url;
*format_repo_url = sub {
    my ($name, $url) = @_;
    return $format_repo_url->($name, $url =~ m{^https://} ? $cgi->a({-href => $url}, esc_html($url)) : $url);
};

# An address below /git/ that names no repository does not show the list.
my $project_list = $actions{project_list};
$actions{project_list} = sub { $path_info ? die_error(404, "No such project") : $project_list->() };

# A worker caches git's answers about the branches and tags of a repository until one of them moves. Git moves one by renaming a file,
# which changes the modification time of its folder.
require Time::HiRes;
my (%known, $folders);
$folders = sub { ($_[0], map { $folders->($_) } grep { -d } glob "\Q$_[0]\E/*") };
my $state_of = sub {
    my ($repository, @others) = @_;
    my @places = (map({ "$repository/$_" } qw(HEAD packed-refs reftable), @others), $folders->("$repository/refs"));
    return join " ", map { (Time::HiRes::stat($_))[9] // "none" } @places;
};
my $remember = sub {
    my ($repository, $question, $ask, @words) = @_;
    my $state = $state_of->($repository);
    my $kept = $known{join "\0", $repository, $question, @words} //= { state => "" };
    return @{$kept->{answer}} if $kept->{state} eq $state;
    my @answer = $ask->(@words);
    # An empty answer is not kept: a git that could not be started gives none either.
    @{$kept}{"state", "answer"} = ($state, \@answer) if grep { defined } @answer;
    return @answer;
};
for my $question (qw(git_get_references git_get_heads_list git_get_tags_list)) {
    no strict "refs";
    my $ask = \&$question;
    *$question = sub {
        my @answer = $remember->($git_dir, $question, $ask, @_);
        $_->{age} = age_string(time - $_->{epoch}) for grep { $_->{epoch} } @answer;
        return wantarray ? @answer : $answer[0];
    };
}
my $last_activity = \&git_get_last_activity;
*git_get_last_activity = sub {
    my ($time) = $remember->("$projectroot/$_[0]", "last activity", sub {
        my ($age) = $last_activity->(@_);
        return defined $age ? time - $age : undef;
    }, @_);
    return defined $time ? (time - $time, age_string(time - $time)) : (undef, undef);
};

# The commit at the head of a summary is cached, too, because the page does not show its age.
my ($summary, $parse_commit) = ($actions{summary}, \&parse_commit);
$actions{summary} = sub {
    local *parse_commit = sub { $remember->($git_dir, "commit", $parse_commit, @_) };
    $summary->();
};

# Highlighting takes 30 ms, also for a file whose language is unknown, in which it changes nothing.
my $blob = $actions{blob};
$actions{blob} = sub {
    local $feature{highlight}{default} = [defined guess_file_syntax(1, $file_name)];
    $blob->();
};

# A worker keeps its last pages, a megabyte in all, for a minute (the ages on them must not get old) or until a repository on them
# changes. It sends a page again only for the same request of the same reader: %ENV is all that GitWeb reads of a request, the login
# included. Before that, GitWeb has checked that this reader may see the repository. (The mark of a public one changes its folder.)
my (%pages, $size);
for my $action (qw(blame blob blobdiff commit commitdiff heads history log project_list shortlog summary tag tags tree)) {
    my $show = $actions{$action};
    $actions{$action} = sub {
        my $request = join "\0", map { "$_=$ENV{$_}" } sort keys %ENV;
        my $state   = join "\0", map { $_ => $state_of->($_, qw(. config description cloneurl info info/attributes)) }
            $git_dir || ($projectroot, glob "\Q$projectroot\E/*.git");
        my ($now, $kept) = (time, $pages{$request});
        return print $kept->{page} if $kept && $kept->{state} eq $state && $now < $kept->{made} + 60;
        $page = "";
        $show->();
        # A page that is too long or may be incomplete is not kept, nor a file.
        return if !defined $page || $late || $saved || !$silent->();
        (%pages, $size) = () if ($size // 0) + length $page > 1_000_000;
        $size += length $page;
        $pages{$request} = {page => $page, state => $state, made => $now};
        undef $page;
    };
}

# Every text is sent as text/plain in UTF-8. (With $prevent_xss, GitWeb sends a Python file as text/plain-python.)
my $blob_contenttype = \&blob_contenttype;
*blob_contenttype = sub {
    my $type = $blob_contenttype->(@_);
    return $type !~ m{^image/} && -T $_[0] ? "text/plain; charset=utf-8" : $type;
};

1;
