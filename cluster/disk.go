package cluster

import (
	"errors"
	"sync"
	"time"
)

// ErrDiskFull means that only writes which end access or make room are taken until the disk has more room.
var ErrDiskFull = errors.New("the disk of this node is nearly full: free space or enlarge it; until then only revocations are taken")

// The reserve keeps revocations possible on a full disk: the smaller of the two.
const (
	reserveBytes   = 64 << 20
	reserveDivisor = 20 // of the file system's size
)

// Disk watches the room on the file system of a directory.
type Disk struct {
	dir  string
	stat func(dir string) (free, total uint64, err error)

	mu      sync.Mutex // protects the following
	checked time.Time
	low     bool
}

// NewDisk watches the file system that holds dir.
func NewDisk(dir string) *Disk { return &Disk{dir: dir, stat: statDisk} }

// hasRoomFor tells whether the disk is far from full even with size bytes more on it.
func (d *Disk) hasRoomFor(size uint64) bool {
	free, total, err := d.stat(d.dir)
	return err == nil && free > size+2*min(reserveBytes, total/reserveDivisor)
}

// Low tells whether the reserve has been reached. It looks at most once a second, and right again while it is low.
func (d *Disk) Low() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if !d.low && now.Sub(d.checked) < time.Second {
		return false
	}
	d.checked = now
	free, total, err := d.stat(d.dir)
	d.low = err == nil && free < min(reserveBytes, total/reserveDivisor)
	return d.low
}
