//go:build unix

package cluster

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir keeps other processes out of a directory until the file is closed or the process ends. It leaves nothing in the directory, which
// may turn out to be somebody else's.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("another sallyport process uses the data directory %s: stop it, or give another --data-dir", path), f.Close())
	}
	// Some network file systems lock no directories; the lock of the Raft log remains.
	return f, nil
}
