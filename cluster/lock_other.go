//go:build !unix

package cluster

import "os"

// lockDir does nothing: the lock of the Raft log remains.
func lockDir(string) (*os.File, error) { return nil, nil }
