package kind

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport/raftfsm"
)

const (
	maxURL     = 2048
	maxScopes  = 64
	maxTimeout = Duration(10 * time.Minute)
	maxServe   = Duration(24 * time.Hour)
)

// Validate implements Resource. Of secrets that are elsewhere it checks only that they are named.
func (u *Upstream) Validate() Problems {
	var p Problems
	s := &u.Spec
	u.validate(KindUpstream, &p)
	if s.URL == "" {
		p.add("/spec/url", "is missing: give the address of the MCP endpoint, such as https://accounting.example/mcp")
	} else {
		checkURL("/spec/url", s.URL, s.Insecure, &p)
	}
	if s.Timeout < 0 || s.Timeout > maxTimeout {
		p.add("/spec/timeout", "%s is not between 0 and 10m", time.Duration(s.Timeout))
	}
	if s.OnStale.Serve > maxServe {
		p.add("/spec/onStale", "serve is longer than 24h")
	}
	if s.OnStale.Serve > 0 && s.UserData {
		p.add("/spec/onStale", "must be refuse, because userData is true: access to the data of people is not to outlive its revocation")
	}
	if pem := s.CACert.String(); pem != "" {
		if err := checkCertificates(pem); err != nil {
			p.add("/spec/caCert", "%s", err)
		}
	}
	u.validateCredential(&p)
	return p
}

func (u *Upstream) validateCredential(p *Problems) {
	c := &u.Spec.Credential
	switch c.Grant {
	case "", raftfsm.GrantNone:
	case raftfsm.GrantStatic:
		c.validateStatic(p)
	case raftfsm.GrantClientCredentials:
		c.validateClient(u.Spec.Insecure, p)
	case "authorization_code", "token_exchange", "jwt_bearer_obo", "id_jag":
		p.add("/spec/credential/grant", "%s is not supported by this version: it knows none, static and client_credentials", c.Grant)
	default:
		p.add("/spec/credential/grant", "%q does not exist: this version knows none, static and client_credentials", c.Grant)
	}
	c.validateMisplaced(p)
	if service := c.Grant == raftfsm.GrantStatic || c.Grant == raftfsm.GrantClientCredentials; service && u.Spec.UserData && !u.Spec.AllowService {
		p.add("/spec/credential/grant", "%s gives all callers the same access, which userData: true refuses; set allowService: true if that is intended", c.Grant)
	}
}

func (c *CredentialSpec) validateStatic(p *Problems) {
	const at = "/spec/credential/header"
	switch name := c.Header.Name; {
	case name == "":
		p.add(at+"/name", "is missing: name the header that carries the value, such as Authorization")
	case !httpguts.ValidHeaderFieldName(name):
		p.add(at+"/name", "%q is no header name", name)
	case reservedHeader(name):
		p.add(at+"/name", "%s is set by the gateway itself", name)
	}
	value := c.Header.Value.Value()
	if !c.Header.Value.Given() {
		p.add(at+"/value", "is missing: give the value or {set: true} to keep the one that is stored")
	}
	if value.Empty() {
		return
	}
	text := value.ExposeString()
	switch {
	case len(text) > maxValueBytes:
		p.add(at+"/value", "is larger than 64 KiB")
	case !httpguts.ValidHeaderFieldValue(text) || strings.TrimSpace(text) != text:
		p.add(at+"/value", "holds line breaks, control characters, or space at an end: a header cannot carry it")
	case strings.EqualFold(c.Header.Name, "Authorization") && !strings.Contains(text, " "):
		p.add(at+"/value", "has no scheme: for Authorization give the whole value, such as \"Bearer TOKEN\"")
	}
}

// reservedHeader tells of headers that say how a message is carried or read. A value there would break it.
func reservedHeader(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "mcp-") || strings.HasPrefix(name, "sec-") || slices.Contains([]string{
		"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "cookie2", "date", "expect",
		"host", "keep-alive", "last-event-id", "origin", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via",
	}, name)
}

func (c *CredentialSpec) validateClient(insecure bool, p *Problems) {
	const at = "/spec/credential"
	if c.Issuer != "" && c.TokenURL != "" {
		p.add(at+"/tokenURL", "stands beside issuer: give one of them")
	}
	if c.Issuer != "" && checkURL(at+"/issuer", c.Issuer, insecure, p) && strings.Contains(c.Issuer, "?") {
		p.add(at+"/issuer", "has a query, which an issuer cannot have (RFC 8414)")
	}
	if c.TokenURL != "" {
		checkURL(at+"/tokenURL", c.TokenURL, insecure, p)
	}
	if c.ClientID == "" || len(c.ClientID) > 1024 || !printable(c.ClientID) {
		p.add(at+"/clientID", "has to be 1 to 1024 printable characters")
	}
	c.validateClientAuth(p)
	if len(c.Scopes) > maxScopes {
		p.add(at+"/scopes", "has %d scopes, more than %d", len(c.Scopes), maxScopes)
	}
	for i, scope := range c.Scopes {
		if !scopeToken(scope) {
			p.add(fmt.Sprintf("%s/scopes/%d", at, i), "%q is no scope: one word each (RFC 6749, section 3.3)", scope)
		}
	}
	if c.Resource != "" {
		if u, err := url.Parse(c.Resource); err != nil || !u.IsAbs() || strings.Contains(c.Resource, "#") || len(c.Resource) > maxURL {
			p.add(at+"/resource", "%q is no absolute URI without a fragment (RFC 8707)", c.Resource)
		}
		if c.OmitResource {
			p.add(at+"/omitResource", "contradicts resource: give one of them")
		}
	}
}

func (c *CredentialSpec) validateClientAuth(p *Problems) {
	const at = "/spec/credential"
	auth := c.clientAuth()
	switch auth {
	case raftfsm.ClientSecretBasic, raftfsm.ClientSecretPost:
		if !c.ClientSecret.Given() {
			p.add(at+"/clientSecret", "is missing: give it, or privateKey, or {set: true} to keep the one that is stored")
		}
		if c.PrivateKey.Given() {
			p.add(at+"/privateKey", "has no use with clientAuth: %s", auth)
		}
		if c.KeyID != "" || c.Algorithm != "" {
			p.add(at, "keyID and algorithm belong to clientAuth: private_key_jwt")
		}
	case raftfsm.PrivateKeyJWT:
		if !c.PrivateKey.Given() {
			p.add(at+"/privateKey", "is missing: give the PEM, or {set: true} to keep the one that is stored")
		}
		if c.ClientSecret.Given() {
			p.add(at+"/clientSecret", "has no use with clientAuth: %s", auth)
		}
		if key := c.PrivateKey.Value(); !key.Empty() {
			if err := checkPrivateKey(key, c.Algorithm); err != nil {
				p.add(at+"/privateKey", "%s", err)
			}
		}
	default:
		p.add(at+"/clientAuth", "%q does not exist: use client_secret_basic, client_secret_post or private_key_jwt", auth)
	}
	if len(c.ClientSecret.Value().Expose()) > maxValueBytes {
		p.add(at+"/clientSecret", "is larger than 64 KiB")
	}
	if len(c.KeyID) > 256 || !printable(c.KeyID) {
		p.add(at+"/keyID", "has to be at most 256 printable characters")
	}
}

// clientAuth is the method that is declared or follows from what is given.
func (c *CredentialSpec) clientAuth() raftfsm.ClientAuth {
	switch {
	case c.ClientAuth != "":
		return c.ClientAuth
	case c.PrivateKey.Given():
		return raftfsm.PrivateKeyJWT
	default:
		return raftfsm.ClientSecretBasic
	}
}

// validateMisplaced reports what belongs to another grant, so that nobody believes it to have an effect.
func (c *CredentialSpec) validateMisplaced(p *Problems) {
	const at = "/spec/credential/"
	if c.Grant != raftfsm.GrantStatic && (c.Header.Name != "" || c.Header.Value.Given()) {
		p.add(at+"header", "belongs to grant: static")
	}
	if c.Grant == raftfsm.GrantClientCredentials {
		return
	}
	for _, field := range []struct {
		name  string
		given bool
	}{
		{"issuer", c.Issuer != ""},
		{"tokenURL", c.TokenURL != ""},
		{"clientID", c.ClientID != ""},
		{"clientSecret", c.ClientSecret.Given()},
		{"clientAuth", c.ClientAuth != ""},
		{"privateKey", c.PrivateKey.Given()},
		{"keyID", c.KeyID != ""},
		{"algorithm", c.Algorithm != ""},
		{"scopes", len(c.Scopes) > 0},
		{"resource", c.Resource != ""},
		{"omitResource", c.OmitResource},
	} {
		if field.given {
			p.add(at+field.name, "belongs to grant: client_credentials")
		}
	}
}

// checkURL reports what is wrong with the address of a server, and tells whether nothing is.
func checkURL(at, text string, insecure bool, p *Problems) bool {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || len(text) > maxURL:
		p.add(at, "is no URL with a host, such as https://accounting.example/mcp")
	case u.User != nil:
		p.add(at, "has a name or password in it: put it into the credential")
	case u.Fragment != "" || strings.Contains(text, "#"):
		p.add(at, "has a fragment, which is not sent: leave it out")
	case u.Scheme == "https":
		return true
	case u.Scheme != "http":
		p.add(at, "has the scheme %q: use https", u.Scheme)
	case !insecure && !loopback(u.Hostname()):
		p.add(at, "is plain http to another machine, which everybody on the way can read: use https, or set insecure: true")
	default:
		return true
	}
	return false
}

// loopback goes by the name alone: what a name resolves to now says nothing about later.
func loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return net.IP(addr.AsSlice()).IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func scopeToken(s string) bool {
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	})
}
