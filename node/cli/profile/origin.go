package profile

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Origin is the scheme, host and port of an address, written in one way: lower case, without the
// default port. Plain http is accepted for loopback alone, since a token goes with every request.
func Origin(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%q is not the address of a node; it looks like https://127.0.0.1:8443", redacted(u, address))
	}
	if u.User != nil {
		return "", fmt.Errorf("the address %s must not contain a user or password", u.Redacted())
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if u.Scheme == "http" && !loopback(host) {
		return "", fmt.Errorf("%s would send the token unencrypted; use https", address)
	}
	if u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		port = ""
	}
	switch {
	case port != "":
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host, nil
}

func redacted(u *url.URL, address string) string {
	if u == nil {
		return address
	}
	return u.Redacted()
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
