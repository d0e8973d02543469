package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"sallyport/cluster"
	"sallyport/crypto"
	"sallyport/node/config"
)

// keys are what this node can open.
type keys struct {
	control *crypto.Keyring // client secrets and the cluster's CA key
	data    *crypto.Keyring // access tokens and static values
}

const (
	controlKeyring = "control"
	dataKeyring    = "data"
)

// openKeys opens the node's keyrings with its key-encryption key. fresh makes what is not there yet, for a cluster that is being made.
func openKeys(ctx context.Context, cfg config.Node, dir *cluster.DataDir, fresh bool) (*keys, error) {
	kek, err := openKEK(ctx, cfg, fresh)
	if err != nil {
		return nil, err
	}
	k := new(keys)
	if k.control, err = openKeyring(dir, controlKeyring, kek, fresh); err != nil {
		return nil, err
	}
	if k.data, err = openKeyring(dir, dataKeyring, kek, fresh); err != nil {
		return nil, err
	}
	return k, nil
}

func openKEK(ctx context.Context, cfg config.Node, fresh bool) (*crypto.KEK, error) {
	uri := cfg.KeyURI()
	path := strings.TrimPrefix(uri, "file:")
	if st, err := os.Stat(path); fresh && err == nil && st.Mode().IsRegular() && st.Size() == 0 {
		// A bootstrap was cut off between making the file and writing it.
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("make the key-encryption key anew: %w", err)
		}
	}
	kek, err := crypto.OpenKEK(ctx, uri)
	if !errors.Is(err, fs.ErrNotExist) {
		return kek, err
	}
	if !fresh {
		return nil, fmt.Errorf("the key-encryption key %s is gone: bring it back from where you keep a copy, nothing opens without it: %w", uri, err)
	}
	if err := crypto.CreateKEKFile(path); err != nil {
		return nil, fmt.Errorf("make the key-encryption key: %w", err)
	}
	return crypto.OpenKEK(ctx, uri)
}

func openKeyring(dir *cluster.DataDir, name string, kek *crypto.KEK, fresh bool) (*crypto.Keyring, error) {
	file := "keyrings/" + name
	wrapped, err := os.ReadFile(dir.File(file))
	switch {
	case err == nil:
		k, err := crypto.UnwrapKeyring(name, wrapped, kek)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", dir.File(file), err)
		}
		return k, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open the %s keyring: %w", name, err)
	case !fresh:
		return nil, fmt.Errorf("the %s keyring is missing: bring %s back from a backup", name, dir.File(file))
	}
	k, err := crypto.NewKeyring(name)
	if err != nil {
		return nil, err
	}
	if wrapped, err = k.Wrap(kek); err != nil {
		return nil, err
	}
	return k, dir.WriteFile(file, wrapped)
}
