// Package upstream obtains and keeps what Sallyport presents to the MCP servers behind it: how a credential is found, fetched once
// however many calls wait for it, renewed before it expires, and replaced when the upstream no longer takes it.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// Store is the replicated state. Apply returns when a command is durable and applied.
type Store interface {
	Read() raftfsm.View
	Apply(context.Context, raftfsm.Command) (raftfsm.Result, error)
}

// ErrNoCredential means that there is nothing to present to an upstream and nothing that could obtain it.
var ErrNoCredential = errors.New("no usable credential")

// Credential is what goes into a request to an upstream. The zero value is that of an upstream which wants none.
type Credential struct {
	ID         string
	Generation uint64
	Header     string
	Value      crypto.Secret
}

// Manager finds and obtains credentials.
type Manager struct {
	store   Store
	control *crypto.Keyring
	data    *crypto.Keyring
	pool    *Pool
	issuers issuers
	log     *slog.Logger
	now     func() time.Time
	// mayUse is asked right before a client's secret leaves the node.
	mayUse func(context.Context, *raftfsm.Upstream) error

	mu      sync.Mutex // protects the following
	flights map[string]*flight
	failed  map[string]failure
}

// flight is one fetch that any number of calls wait for.
type flight struct {
	done chan struct{}
	err  error
}

// failure keeps calls from repeating what has just failed.
type failure struct {
	err   error
	count int
	until time.Time
	// upstream is the ModifyIndex of the configuration that failed: another one is tried at once.
	upstream uint64
}

// New makes a Manager. control opens client secrets, data seals what is obtained. mayUse is asked right before a client's secret leaves the
// node: it has to record the use, and an error of it keeps the secret here.
func New(store Store, control, data *crypto.Keyring, pool *Pool, mayUse func(context.Context, *raftfsm.Upstream) error, log *slog.Logger) *Manager {
	return &Manager{
		store: store, control: control, data: data, pool: pool, mayUse: mayUse, log: log, now: time.Now,
		issuers: issuers{known: map[string]knownIssuer{}}, flights: map[string]*flight{}, failed: map[string]failure{},
	}
}

// Credential returns what to present to an upstream, obtaining it if need be.
func (m *Manager) Credential(ctx context.Context, u *raftfsm.Upstream) (Credential, error) {
	if u.Grant == raftfsm.GrantNone {
		return Credential{}, nil
	}
	for {
		c, ok := m.store.Read().Credential(raftfsm.CredentialID(u.Name, raftfsm.SubjectGateway))
		if ok && m.usable(c) {
			return m.open(c)
		}
		if u.Grant != raftfsm.GrantClientCredentials || ok && c.State == raftfsm.CredentialRevoked {
			return Credential{}, fmt.Errorf("%w for upstream %s: it was revoked or never set: apply the upstream anew", ErrNoCredential, u.Name)
		}
		if err := m.obtain(ctx, u, generation(c)); err != nil {
			return Credential{}, err
		}
	}
}

// Rejected is told that the upstream refused a credential. It returns another one, obtained if nobody has yet; an error means that the
// refusal stands.
func (m *Manager) Rejected(ctx context.Context, u *raftfsm.Upstream, refused Credential) (Credential, error) {
	if u.Grant != raftfsm.GrantClientCredentials {
		return Credential{}, fmt.Errorf("%w: upstream %s refuses the one it has", ErrNoCredential, u.Name)
	}
	c, ok := m.store.Read().Credential(refused.ID)
	if !ok || c.Generation == refused.Generation {
		if err := m.obtain(ctx, u, refused.Generation); err != nil {
			return Credential{}, err
		}
	}
	return m.Credential(ctx, u)
}

func generation(c *raftfsm.Credential) uint64 {
	if c == nil {
		return 0
	}
	return c.Generation
}

// usable tells whether a credential can be presented. A token that is about to expire could do so on its way.
func (m *Manager) usable(c *raftfsm.Credential) bool {
	if c.State != raftfsm.CredentialActive || len(c.Sealed) == 0 {
		return false
	}
	if c.ExpireTime == 0 {
		return true
	}
	left := time.UnixMilli(c.ExpireTime).Sub(m.now())
	margin := min(5*time.Second, time.UnixMilli(c.ExpireTime).Sub(time.UnixMilli(c.ModifyTime))/10)
	return left > margin
}

func (m *Manager) open(c *raftfsm.Credential) (Credential, error) {
	value, err := m.data.Open(c.Sealed, crypto.Binding{Kind: "credential", ID: c.ID, Generation: c.Generation})
	if err != nil {
		return Credential{}, fmt.Errorf("open credential %s: %w", c.ID, err)
	}
	if c.Scheme != "" {
		value = crypto.SecretString(c.Scheme + " " + value.ExposeString())
	}
	return Credential{ID: c.ID, Generation: c.Generation, Header: c.Header, Value: value}, nil
}

// obtain fetches the generation after the given one. Calls at the same time share one fetch, which goes on when its first caller leaves.
func (m *Manager) obtain(ctx context.Context, u *raftfsm.Upstream, after uint64) error {
	key := fmt.Sprintf("%s:%d:%d", u.Name, u.ModifyIndex, after)
	m.mu.Lock()
	if f, ok := m.failed[u.Name]; ok && f.upstream == u.ModifyIndex && m.now().Before(f.until) {
		m.mu.Unlock()
		return f.err
	}
	f, ok := m.flights[key]
	if !ok {
		f = &flight{done: make(chan struct{})}
		m.flights[key] = f
		go m.fly(key, f, u, after)
	}
	m.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("wait for a credential of upstream %s: %w", u.Name, context.Cause(ctx))
	}
}

func (m *Manager) fly(key string, f *flight, u *raftfsm.Upstream, after uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*fetchTimeout)
	defer cancel()
	f.err = m.fetch(ctx, u, after)
	m.mu.Lock()
	delete(m.flights, key)
	m.note(u, f.err)
	m.mu.Unlock()
	close(f.done)
}

// note remembers a failure for a while that grows with repetition. m.mu is held.
func (m *Manager) note(u *raftfsm.Upstream, err error) {
	if err == nil {
		delete(m.failed, u.Name)
		return
	}
	const first, longest = 500 * time.Millisecond, 30 * time.Second
	count := m.failed[u.Name].count + 1
	wait := min(longest, first<<min(count-1, 10))
	var refused *RefusedError
	if errors.As(err, &refused) && refused.permanent() {
		wait = longest
	}
	m.failed[u.Name] = failure{err: err, count: count, until: m.now().Add(wait), upstream: u.ModifyIndex}
	m.log.Warn("cannot obtain a credential", "upstream", u.Name, "error", err, "retryIn", wait)
}

// fetch obtains a token and commits it: it is used by nobody before.
func (m *Manager) fetch(ctx context.Context, u *raftfsm.Upstream, after uint64) error {
	id := raftfsm.CredentialID(u.Name, raftfsm.SubjectGateway)
	if c, ok := m.store.Read().Credential(id); ok && c.Generation > after {
		return nil // another fetch was faster
	}
	got, err := m.clientCredentials(ctx, u)
	if err != nil {
		return fmt.Errorf("upstream %s: %w", u.Name, err)
	}
	next := raftfsm.Credential{
		ID: id, Upstream: u.Name, Subject: raftfsm.SubjectGateway, Grant: u.Grant, State: raftfsm.CredentialActive, Generation: after + 1,
		Header: "Authorization", Scheme: "Bearer", Scope: got.scope, RefreshTime: got.renew.UnixMilli(), UpstreamIndex: u.ModifyIndex,
	}
	if !got.expiry.IsZero() {
		next.ExpireTime = got.expiry.UnixMilli()
	}
	if next.Sealed, err = m.data.Seal(got.value, crypto.Binding{Kind: "credential", ID: id, Generation: next.Generation}); err != nil {
		return fmt.Errorf("upstream %s: seal the token: %w", u.Name, err)
	}
	_, err = m.store.Apply(ctx, &raftfsm.PutCredential{Time: m.now().UnixMilli(), Credential: next})
	switch {
	case errors.Is(err, raftfsm.ErrConflict):
		return nil // revoked, replaced or reconfigured meanwhile: whoever asked looks again
	case err != nil:
		return fmt.Errorf("upstream %s: store the token: %w", u.Name, err)
	}
	m.log.Info("obtained a credential", "credential", id, "generation", next.Generation)
	return nil
}

// Renew is the leader's duty to obtain new tokens before the old ones expire, until ctx ends.
func (m *Manager) Renew(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.renewDue(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// renewConcurrency bounds how many token endpoints are asked at a time.
const renewConcurrency = 16

func (m *Manager) renewDue(ctx context.Context) {
	view := m.store.Read()
	now := m.now().UnixMilli()
	slots := make(chan struct{}, renewConcurrency)
	var fetching sync.WaitGroup
	for c := range view.Credentials() {
		u, ok := view.Upstream(c.Upstream)
		if !ok || u.Grant != raftfsm.GrantClientCredentials || c.State != raftfsm.CredentialActive || c.RefreshTime == 0 || c.RefreshTime > now {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		fetching.Go(func() {
			defer func() { <-slots }()
			// Failures are logged and remembered by obtain; the token that there is serves until it expires.
			_ = m.obtain(ctx, u, c.Generation)
		})
	}
	fetching.Wait()
}
