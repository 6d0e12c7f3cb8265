# A SIGTERM ends GitWeb's manager (FCGI::ProcManager) also while it starts, and a process that it has just forked.
#
# One that came before the manager listened for it was taken by libfcgi as the end of all accepting: the manager lived on, and
# each process that it started ended at once. A process that had just been forked took itself for the manager, and waited in a
# busy loop for processes that are not its own. (One that waits for requests ends, at the latest, after its next one.)
package EndsOnTERM;

use strict;
use warnings;
use FCGI::ProcManager;
use POSIX ();

my $manager = $$;
my $listen  = \&FCGI::ProcManager::sig_manager;
my $end     = sub { POSIX::_exit(143) };           # not Perl's exit, which it does not survive while it compiles

# libfcgi, which is loaded later, lets be what is handled; the manager's own way of handling it passes it on.
$SIG{TERM} = $FCGI::ProcManager::SIG_CODEREF = $end;

no warnings "redefine";
*FCGI::ProcManager::sig_manager = sub { $$ == $manager ? $listen->(@_) : $end->() };

1;
