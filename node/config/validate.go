package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Validate reports every setting that a node cannot start with, each on a line of its own. It looks at the settings
// alone: whether files exist and ports are free shows when they are used.
func (n Node) Validate() error {
	return errors.Join(
		n.validateNames(),
		n.validateAddresses(),
		n.validateAdvertise(),
		n.validateTLS(),
		n.validateLimits(),
	)
}

func (n Node) validateNames() error {
	var found []error
	if n.DataDir == "" {
		found = append(found, errors.New("data-dir is not set: name the directory that holds what the node keeps"))
	}
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,62}$`)
	if n.ID != "" && !name.MatchString(n.ID) {
		found = append(found, fmt.Errorf("id %q: use at most 63 letters, digits and hyphens, and begin with a letter or digit", n.ID))
	}
	if !name.MatchString(n.Region) {
		found = append(found, fmt.Errorf("region %q: use at most 63 letters, digits and hyphens, and begin with a letter or digit", n.Region))
	}
	return errors.Join(found...)
}

func (n Node) validateAddresses() error {
	var found []error
	taken := map[string]string{}
	for _, a := range []struct {
		name, address string
		mayBeEmpty    bool
	}{
		{"listen", n.Listen, false},
		{"cluster-listen", n.ClusterListen, false},
		{"gossip-listen", n.GossipListen, false},
		{"ops-listen", n.OpsListen, true},
		{"admin-listen", n.AdminListen, true},
	} {
		if a.address == "" && a.mayBeEmpty {
			continue
		}
		port, err := portOf(a.address)
		if err != nil {
			found = append(found, fmt.Errorf("%s %q: %w", a.name, a.address, err))
			continue
		}
		if other, ok := taken[a.address]; ok && port != 0 {
			found = append(found, fmt.Errorf("%s and %s are both %s: each needs an address of its own", other, a.name, a.address))
		}
		taken[a.address] = a.name
	}
	return errors.Join(found...)
}

func portOf(address string) (uint16, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, errors.New("is not host:port, such as 127.0.0.1:8443 or :8443")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return uint16(number), nil
}

func (n Node) validateAdvertise() error {
	if n.Advertise == "" {
		return nil
	}
	u, err := url.Parse(n.Advertise)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("advertise %q: is not an https URL without a path, such as https://gateway.example:8443", n.Advertise)
	}
	return nil
}

func (n Node) validateTLS() error {
	switch {
	case n.TLSCert != "" && n.TLSKey == "":
		return errors.New("tls-cert is set but tls-key is not: name the file with its private key too")
	case n.TLSCert == "" && n.TLSKey != "":
		return errors.New("tls-key is set but tls-cert is not: name the file with its certificate too")
	}
	return nil
}

func (n Node) validateLimits() error {
	var found []error
	if n.LogLevel < slog.LevelDebug || n.LogLevel > slog.LevelError {
		found = append(found, fmt.Errorf("log-level %s: is not debug, info, warn or error", n.LogLevel))
	}
	if n.MaxStaleness <= 0 {
		found = append(found, fmt.Errorf("max-staleness %s: must be more than 0, such as 10s", n.MaxStaleness))
	}
	return errors.Join(found...)
}
