package stdio

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// unsentError is the error of a request that cannot have been carried out, since no byte of it left.
type unsentError struct{ cause error }

func (e *unsentError) Error() string { return e.cause.Error() }

func (e *unsentError) Unwrap() error { return e.cause }

// connTrace watches whether a request got a connection.
type connTrace struct{ asked, got atomic.Bool }

func (t *connTrace) in(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { t.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { t.got.Store(true) },
	})
}

// noConnection proves something only of a transport that can be watched, which asked says.
func (t *connTrace) noConnection() bool { return t.asked.Load() && !t.got.Load() }

// noConnection reports whether err proves the same: the name was not found, nobody listened, or the
// certificate was not to be trusted. It knows of requests that got a connection which was closed
// already, and then no other. Where err tells of several attempts the first counts, which
// transport.Client makes the last one: it makes another only if the one before was not sent.
func noConnection(err error) bool {
	for err != nil {
		switch cause := err.(type) { // errors.As would find any of the attempts
		case *net.OpError:
			return cause.Op == "dial"
		case *net.DNSError, *tls.CertificateVerificationError:
			return true
		case interface{ Unwrap() []error }:
			attempts := cause.Unwrap()
			if len(attempts) == 0 {
				return false
			}
			err = attempts[0]
		default:
			err = errors.Unwrap(err)
		}
	}
	return false
}
