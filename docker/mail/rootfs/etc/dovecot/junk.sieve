# Postfix removes this header from what others send (header_checks).
require ["fileinto", "mailbox"];
if header :is "X-Spam" "Yes" {
    fileinto :create "Junk";
    stop;
}
