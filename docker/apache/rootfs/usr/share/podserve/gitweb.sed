# GitWeb would read a whole file or snapshot into memory before it sends a byte, and would go on after the client has disconnected.
s/^\t*print <$fd>;$/while (read $fd, my $part, 65536) { print $part or last }/
# GitWeb would offer the pickaxe search, which gitweb.conf disables.
s/'committer', 'pickaxe'\]/'committer']/
