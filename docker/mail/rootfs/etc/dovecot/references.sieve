# A letter has one References (RFC 5322, section 3.6). Dovecot reads all that there are for each name in the first one, and keeps
# what it read: with four of 30 kB, THREAD took more memory than an imap process has, and ended it, each time.
require ["editheader", "relational", "comparator-i;ascii-numeric"];
if header :count "gt" :comparator "i;ascii-numeric" "References" "1" {
    deleteheader "References";
}
