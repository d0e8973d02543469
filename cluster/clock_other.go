//go:build !linux

package cluster

import "time"

// bootTime falls back to the wall clock where there is no clock that counts suspend; a jump of it means stale.
func bootTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
