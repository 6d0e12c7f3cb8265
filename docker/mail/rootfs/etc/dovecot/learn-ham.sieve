# What is deleted from Junk is not ham.
require ["vnd.dovecot.pipe", "copy", "environment", "imapsieve"];
if not environment :is "imap.mailbox" "Trash" {
    pipe :copy "learn" ["ham"];
}
