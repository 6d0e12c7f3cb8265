"""The DNS records that this server needs: listed, checked against what resolvers answer, and served by its BIND."""
