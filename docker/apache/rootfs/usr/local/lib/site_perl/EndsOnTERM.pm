# A SIGTERM ends GitWeb's processes, at whatever moment it comes, and loses no request.
#
# The manager (FCGI::ProcManager) also ends while it starts, and so does a process that it has just forked. Otherwise libfcgi would
# take a SIGTERM that comes before the manager listens for it as the end of all accepting: the manager would live on, and each
# process that it started would end at once. A process that had just been forked would take itself for the manager, and would wait
# in a busy loop for processes that are not its own.
package EndsOnTERM;

use strict;
use warnings;
use FCGI::ProcManager;
use Fcntl ();
use POSIX ();

my $manager = $$;
my $listen  = \&FCGI::ProcManager::sig_manager;
my $end     = sub { POSIX::_exit(143) };           # not Perl's exit, which it does not survive while it compiles

# libfcgi, which is loaded later, lets be what is handled; the manager's own way of handling it passes it on.
$SIG{TERM} = $FCGI::ProcManager::SIG_CODEREF = $end;

no warnings "redefine";
*FCGI::ProcManager::sig_manager = sub { $$ == $manager ? $listen->(@_) : $end->() };

# FCGI::ProcManager has its Perl code run at the very moment of a signal, whatever Perl is doing, of which a process that computed
# a page died (SIGSEGV). Perl's safe signals wait for the end of the operation: https://perldoc.perl.org/POSIX#POSIX::SigAction
*FCGI::ProcManager::_set_signal_handler = sub {
    my (undef, $name, $restart) = @_;
    my $action = POSIX::SigAction->new("FCGI::ProcManager::sig_sub", undef, $restart ? POSIX::SA_RESTART : 0);
    $action->safe(1);
    POSIX::sigaction(POSIX->can("SIG$name")->(), $action);
};

# libfcgi closes a connection when a signal comes between its accept and the end of the request's header, and Apache answers that
# request with 503. So a process takes signals while it waits for a connection, and again when it has the whole header.
# https://github.com/FastCGI-Archives/fcgi2/blob/2.4.5/libfcgi/os_unix.c (is_af_unix_keeper, OS_Read)
require FCGI;
my $accept  = \&FCGI::Accept;
my $signals = POSIX::SigSet->new(POSIX::SIGTERM, POSIX::SIGHUP);

# All processes see a new connection, and one gets it: the others must not wait in accept, where they take no signal.
fcntl STDIN, Fcntl::F_SETFL, Fcntl::O_NONBLOCK;
*FCGI::Accept = sub ($) {
    my ($request) = @_;
    $request->Finish;
    while (1) {
        vec(my $ready = "", 0, 1) = 1;
        return -1 if select($ready, undef, undef, undef) < 0;
        POSIX::sigprocmask(POSIX::SIG_BLOCK, $signals);
        my $failed = $accept->($request);
        POSIX::sigprocmask(POSIX::SIG_UNBLOCK, $signals);
        return $failed if $failed >= 0;
    }
};

1;
