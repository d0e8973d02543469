package stdio

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// checkNodes refuses addresses that would give the token away or cannot work.
func checkNodes(list []Node) error {
	if len(list) == 0 {
		return errors.New("no node to connect to: name one, such as https://127.0.0.1:8443/mcp/accounting, or set SALLYPORT_ADDR")
	}
	for _, node := range list {
		if err := checkURL(node.URL); err != nil {
			return err
		}
	}
	return nil
}

func checkURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%q is not the address of an MCP endpoint; it looks like https://127.0.0.1:8443/mcp/accounting", address)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("the address %s must not contain a user or a fragment", u.Redacted())
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%s would send the token unencrypted; use https", address)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
