# GitWeb would read a whole file or snapshot into memory before it sends a byte, and send on to a client who has gone.
s/^\t*print <$fd>;$/while (read $fd, my $part, 65536) { print $part or last }/
# It would offer what gitweb.conf does not allow.
s/'committer', 'pickaxe'\]/'committer']/
