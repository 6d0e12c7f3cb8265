# GitWeb's worker processes: perl -MWorkers=COUNT gitweb.cgi --fcgi
#
# The first process compiles GitWeb, starts COUNT workers, which share its memory, and replaces each one that ends. It does nothing
# else, so a signal may end it at any moment. Its workers then answer one more request each, unless another worker accepts it first,
# and end. A SIGTERM ends a worker that waits for a request at once, and one that has a request after its answer.
package Workers;

use strict;
use warnings;
use Fcntl ();
use POSIX ();

my ($first, $ended) = $$;
my $over = sub { $ended || getppid != $first };

# libfcgi handles SIGTERM if nobody else does by the time that it is loaded. Its handler would only set a flag for accept.
# Perl's own exit would not end a process that still compiles.
$SIG{TERM} = sub { POSIX::_exit(143) };
require FCGI;

sub import {
    my (undef, $count) = @_;

    # GitWeb calls these when it has been compiled, and after each request.
    $main::pre_listen_hook = sub {
        $0 = "perl-fcgi-pm";
        for (my $running = 0 ; ; $running--) {
            for (; $running < $count ; $running++) {
                defined(my $process = fork) or die "Cannot start a worker: $!";
                return _become_worker() if !$process;
            }
            wait;
        }
    };
    $main::post_dispatch_hook = sub { exit if $over->() };
}

sub _become_worker {
    $0 = "perl-fcgi";
    srand;

    # SA_RESTART lets the kernel continue a write that a signal has interrupted: libfcgi would give it up. With safe(1), Perl runs the
    # handler between two operations: a handler in the middle of one crashed the process.
    my $handler = POSIX::SigAction->new(sub { $ended = 1 }, undef, POSIX::SA_RESTART);
    $handler->safe(1);
    POSIX::sigaction(POSIX::SIGTERM, $handler);

    # A new connection wakes all workers, and one accepts it. The others must not wait in accept, where SIGTERM is blocked.
    fcntl STDIN, Fcntl::F_SETFL, Fcntl::O_NONBLOCK;
}

# libfcgi closes a connection when a signal comes between its accept and the end of the request's header, and Apache answers that
# request with 503. So SIGTERM is blocked between these two.
# https://github.com/FastCGI-Archives/fcgi2/blob/2.4.5/libfcgi/os_unix.c (is_af_unix_keeper, OS_Read)
my $accept = \&FCGI::Accept;
my $term   = POSIX::SigSet->new(POSIX::SIGTERM);
no warnings "redefine";
*FCGI::Accept = sub ($) {
    my ($request) = @_;
    $request->Finish;
    until ($over->()) {
        vec(my $ready = "", 0, 1) = 1;
        next if select($ready, undef, undef, undef) < 0;
        POSIX::sigprocmask(POSIX::SIG_BLOCK, $term);
        my $accepted = $accept->($request);
        POSIX::sigprocmask(POSIX::SIG_UNBLOCK, $term);
        return $accepted if $accepted != -POSIX::EAGAIN;
    }
    return -1;
};

1;
