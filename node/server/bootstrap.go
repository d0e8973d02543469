package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

const (
	adminTokenFile = "admin.token"
	adminTokenTTL  = 24 * time.Hour
)

// makeCluster writes the cluster record if there is none: a name and an authority for certificates.
func (n *Node) makeCluster(ctx context.Context) error {
	if _, ok := n.cluster.Read().Cluster(); ok {
		return nil
	}
	id := strings.ToLower(rand.Text()[:13])
	ca, err := crypto.NewAuthority(id, time.Now())
	if err != nil {
		return err
	}
	key, err := ca.Key()
	if err != nil {
		return err
	}
	sealed, err := n.keys.control.Seal(key, caBinding(id))
	if err != nil {
		return fmt.Errorf("seal the authority's key: %w", err)
	}
	record := raftfsm.Cluster{ID: id, CACert: ca.CertPEM(), CAKey: sealed}
	_, err = n.cluster.Apply(ctx, &raftfsm.SetCluster{Time: time.Now().UnixMilli(), Cluster: record})
	if err != nil && !errors.Is(err, raftfsm.ErrExists) {
		return fmt.Errorf("write the cluster's record: %w", err)
	}
	return nil
}

func caBinding(clusterID string) crypto.Binding { return crypto.Binding{Kind: "ca", ID: clusterID} }

func (n *Node) authority() (*crypto.Authority, error) {
	record, ok := n.cluster.Read().Cluster()
	if !ok {
		return nil, errors.New("this cluster was not completed: start once more with --bootstrap")
	}
	key, err := n.keys.control.Open(record.CAKey, caBinding(record.ID))
	if err != nil {
		return nil, fmt.Errorf("open the authority's key: %w", err)
	}
	return crypto.LoadAuthority(record.CACert, key)
}

// makeAdminToken writes a token for the owner if no owner's token is good any more: whoever may start the node with --bootstrap owns its
// data, and an owner whose tokens have all expired needs a way in. The file comes before the commit, so that a crash between them leaves a
// file that the next start replaces rather than a token that nobody knows.
func (n *Node) makeAdminToken(ctx context.Context) error {
	now := time.Now()
	for t := range n.cluster.Read().AdminTokens() {
		if t.Role == "owner" && t.RevokedIndex == 0 && (t.ExpireTime == 0 || t.ExpireTime > now.UnixMilli()) {
			return nil
		}
	}
	text, hash, err := crypto.NewToken(crypto.AdminToken)
	if err != nil {
		return err
	}
	if err := n.dir.WriteFile(adminTokenFile, []byte(text.ExposeString()+"\n")); err != nil {
		return err
	}
	token := raftfsm.AdminToken{ID: strings.ToLower(rand.Text()[:16]), Hash: hash, Role: "owner", Name: "bootstrap", ExpireTime: now.Add(adminTokenTTL).UnixMilli()}
	if _, err := n.cluster.Apply(ctx, &raftfsm.PutAdminToken{Time: now.UnixMilli(), Token: token}); err != nil {
		return fmt.Errorf("write the first admin token: %w", err)
	}
	n.log.Info("wrote an admin token for the owner", "file", n.AdminTokenPath(), "expires", now.Add(adminTokenTTL).UTC())
	return nil
}
