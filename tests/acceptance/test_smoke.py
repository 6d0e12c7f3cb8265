def test_up(own, alice, bob, neighbour, outsider, server):
    print(own.address, neighbour, outsider)
    with server.imap(alice) as c:
        print(c.select_folder("INBOX"))
    with server.http(alice, http2=True) as h:
        print(h.get("/"))
    with server.submission(alice) as s:
        print(s.noop())
    with server.pop3(alice) as p: print(p.stat())
    print(outsider.python("import socket,sys;s=socket.create_connection((sys.argv[1],25),5);print(s.recv(99));print(s.getsockname())", own.address))
    print(own.logs()[-1500:])
