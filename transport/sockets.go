package transport

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// portTries is how many free TCP ports are tried before one is found that is free for UDP as well.
const portTries = 32

// listenBoth binds one port for TCP and UDP. With port 0 it is any port that is free for both.
func listenBoth(addr string) (net.Listener, *net.UDPConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %q: %w; write HOST:PORT or :PORT", addr, err)
	}
	tries := 1
	if port == "0" || port == "" {
		tries = portTries
	}
	for {
		tcp, udp, err := tryListenBoth(host, addr)
		tries--
		if err == nil || tries == 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return tcp, udp, err
		}
	}
}

func tryListenBoth(host, addr string) (net.Listener, *net.UDPConn, error) {
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s for HTTP/2 and HTTP/1.1: %w", addr, err)
	}
	port := strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)
	udpAddr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, port))
	if err == nil {
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp", udpAddr); err == nil {
			return tcp, udp, nil
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("listen on UDP port %s for HTTP/3: %w", port, err), tcp.Close())
}
