//go:build !unix

package cluster

import "errors"

func statDisk(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
