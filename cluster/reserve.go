package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// reserve is room on the disk that is given up when the disk is full, so that the log can take the revocations and removals that are to be
// committed even then: failing closed must not lock the door to the repair.
type reserve struct {
	path string
	mu   sync.Mutex // one change at a time
}

// logReserveBytes is what bbolt asks for when its file grows, and some more.
const logReserveBytes = 20 << 20

// fill takes the room if it is not taken yet. The room is written, since a file with holes reserves nothing.
func (r *reserve) fill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st, err := os.Stat(r.path); err == nil && st.Size() >= logReserveBytes {
		return nil
	}
	if err := writeSynced(r.path, make([]byte, logReserveBytes)); err != nil {
		return errors.Join(fmt.Errorf("reserve room on the disk: %w", err), os.Remove(r.path))
	}
	return nil
}

// release gives the room up. It tells whether there was any.
func (r *reserve) release() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := os.Remove(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("give up the room that was reserved on the disk: %w", err)
	}
	return true, nil
}
