# GitWeb's worker processes: perl -MWorkers=COUNT gitweb.cgi --fcgi
#
# The first process compiles GitWeb and starts COUNT workers, which share its memory. It replaces each one that ends, and it starts
# one more for each that is busy for long: with a page that is costly, or with a client that reads slowly. So a short request waits
# for no long one. The first process keeps nothing that must last, so a signal may end it at any moment. Its workers then answer one
# more request each, unless another worker accepts it first, and end. A SIGTERM ends a worker that waits for a request at once, and
# one that has a request after its answer.
package Workers;

use strict;
use warnings;
use Fcntl ();
use POSIX ();
use Time::HiRes ();

# A request is long after this time (s). So many long requests may run, of all clients and of one client. One more is ended.
# Of a client's requests at once, the first ones have the priority of everybody's. The others have the lowest.
my ($short, $long, $long_of_one, $favoured) = (0.5, 24, 8, 2);

my ($first, $tell, $ended) = $$;
my $over = sub { $ended || getppid != $first };

# libfcgi handles SIGTERM if nobody else does by the time that it is loaded. Its handler would only set a flag for accept.
# Perl's own exit would not end a process that still compiles.
$SIG{TERM} = sub { POSIX::_exit(143) };
require FCGI;

sub import {
    my (undef, $count) = @_;

    # GitWeb calls these when it has been compiled, and after each request.
    $main::pre_listen_hook = sub { _manage($count) };
    $main::post_dispatch_hook = sub { exit if $over->() };
}

# Keep COUNT workers beside those with a long request. Return in each worker, and in no other process.
sub _manage {
    my ($count) = @_;
    $0 = "perl-fcgi-pm";
    local $SIG{CHLD} = "IGNORE";
    my ($number, %workers) = 0;
    for (;;) {
        my @ready = grep { !$_->{long} && !$_->{ends} } values %workers;
        for (@ready .. $count - 1) {
            pipe my $said, my $speak or die "Cannot make a pipe: $!";
            defined(my $process = fork) or die "Cannot start a worker: $!";
            if (!$process) {
                (%workers, $tell) = ();
                $tell = $speak;
                return _become_worker();
            }
            $workers{$process} = {process => $process, said => $said, number => $number++};
        }

        # A worker whose long request is over is one of COUNT again. The newest idle one, which remembers least, goes.
        my @idle = sort { $a->{number} <=> $b->{number} } grep { !$_->{since} } @ready;
        for (1 .. @ready - $count) {
            my $newest = pop @idle or last;
            $newest->{ends} = kill TERM => $newest->{process};
        }

        _hear(\%workers);
        _part($_, [grep { $_->{long} } values %workers])
            for grep { $_->{since} && !$_->{long} && $_->{since} + $short <= _now() } values %workers;
    }
}

sub _now { Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

# Wait until a worker begins or ends a request, ends, or has a request that becomes long.
sub _hear {
    my ($workers) = @_;
    my ($oldest) = sort { $a <=> $b } map { $_->{since} } grep { $_->{since} && !$_->{long} } values %$workers;
    my $wait = defined $oldest ? $oldest + $short - _now() : undef;
    vec(my $ready = "", 0, 1) = 0;
    vec($ready, fileno $_->{said}, 1) = 1 for values %$workers;
    return if select($ready, undef, undef, defined $wait && $wait < 0 ? 0 : $wait) <= 0;
    for my $worker (grep { vec $ready, fileno $_->{said}, 1 } values %$workers) {
        if (!sysread $worker->{said}, my $text, 4096) {
            delete $workers->{$worker->{process}};
        } elsif ($text =~ /^begin (.*)\n\z/m) {
            my $own = grep { $_->{since} && $_->{client} eq $1 } values %$workers;
            @{$worker}{"since", "client", "long"} = (_now(), $1);
            next if $1 eq "" || $own < $favoured;
            # A process cannot raise its priority again, so this worker ends after its answer.
            setpriority 1, $worker->{process}, 19;
            $worker->{ends} = kill TERM => $worker->{process};
        } else {
            @{$worker}{"since", "long"} = ();
        }
    }
}

# Set a worker with a long request apart, or end it if too many of these run. It has a process group with its programs.
sub _part {
    my ($worker, $running) = @_;
    my $own = grep { $_->{client} eq $worker->{client} } @$running;
    $worker->{long} = 1;
    return if @$running < $long && ($worker->{client} eq "" || $own < $long_of_one);
    $worker->{ends} = kill KILL => -$worker->{process};
}

sub _become_worker {
    $0 = "perl-fcgi";
    setpgrp;
    srand;

    # SA_RESTART lets the kernel continue a write that a signal has interrupted: libfcgi would give it up. With safe(1), Perl runs the
    # handler between two operations: a handler in the middle of one crashed the process.
    my $handler = POSIX::SigAction->new(sub { $ended = 1 }, undef, POSIX::SA_RESTART);
    $handler->safe(1);
    POSIX::sigaction(POSIX::SIGTERM, $handler);

    # A new connection wakes all workers, and one accepts it. The others must not wait in accept, where SIGTERM is blocked.
    fcntl STDIN, Fcntl::F_SETFL, Fcntl::O_NONBLOCK;
}

# Tell the first process that a request begins or ends. It may have been killed.
sub _tell {
    local $SIG{PIPE} = "IGNORE";
    syswrite $tell, "$_[0]\n";
}

# libfcgi closes a connection when a signal comes between its accept and the end of the request's header, and Apache answers that
# request with 503. So SIGTERM is blocked between these two.
# https://github.com/FastCGI-Archives/fcgi2/blob/2.4.5/libfcgi/os_unix.c (is_af_unix_keeper, OS_Read)
my $accept = \&FCGI::Accept;
my $term   = POSIX::SigSet->new(POSIX::SIGTERM);
my $began;
no warnings "redefine";
*FCGI::Accept = sub ($) {
    my ($request) = @_;
    $request->Finish;
    _tell("end") if $began;
    until ($over->()) {
        vec(my $ready = "", 0, 1) = 1;
        next if select($ready, undef, undef, undef) < 0;
        POSIX::sigprocmask(POSIX::SIG_BLOCK, $term);
        my $accepted = $accept->($request);
        POSIX::sigprocmask(POSIX::SIG_UNBLOCK, $term);
        next if $accepted == -POSIX::EAGAIN;
        my $given = $request->GetEnvironment;
        # The addresses that many clients share (conf-available/clients.conf) have no limit of their own.
        _tell("begin " . ($given->{shared} ? "" : $given->{HTTP_CLIENT_NETWORK} // "")) if $began = $accepted >= 0;
        return $accepted;
    }
    return -1;
};

1;
