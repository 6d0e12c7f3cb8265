# A message has at most one References header (RFC 5322, section 3.6). With several, Dovecot reads all of them for each name in the
# first one and keeps them in memory: four headers of 30 kB exceeded the memory of an imap process at THREAD, and the process ended.
require ["editheader", "relational", "comparator-i;ascii-numeric"];
if header :count "gt" :comparator "i;ascii-numeric" "References" "1" {
    deleteheader "References";
}
