package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// markerFile says whose data directory it is. It is the first file that a node writes into an empty one.
const markerFile = "node.json"

const dataFormat = 1

// newSuffix is that of files that replace others when they are complete.
const newSuffix = ".new"

type marker struct {
	Format  int    `json:"format"`
	Node    string `json:"node"`
	Cluster string `json:"cluster,omitempty"`
}

// DataDir is a directory that belongs to one node, and to one process as long as it is open.
type DataDir struct {
	Path string
	Node string
	// Cluster is empty until the node belongs to one.
	Cluster string

	lock *os.File // nil where there is no such lock
}

// OpenDataDir claims path for the node id, or recognises it as that node's. An empty id takes the one that the directory has, or a new
// one from fallback. Anything that is not a data directory of this node is refused and left as it is.
func OpenDataDir(path, id, fallback string) (*DataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &DataDir{Path: path, lock: lock}
	if err := d.recognise(id, fallback); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close lets other processes use the directory.
func (d *DataDir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

func (d *DataDir) recognise(id, fallback string) error {
	data, err := os.ReadFile(d.File(markerFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if id == "" {
			id = fallback
		}
		return d.claim(id)
	case err != nil:
		return fmt.Errorf("read the data directory's marker: %w", err)
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil || m.Node == "" {
		return fmt.Errorf("%s is not what sallyport wrote there: use another data directory, or restore this one from a backup", d.File(markerFile))
	}
	if m.Format != dataFormat {
		return fmt.Errorf("data directory %s has format %d, this version of sallyport knows %d: use the version that wrote it", d.Path, m.Format, dataFormat)
	}
	if id != "" && id != m.Node {
		return fmt.Errorf("data directory %s belongs to node %q, not to %q: give the right --id or another --data-dir", d.Path, m.Node, id)
	}
	d.Node, d.Cluster = m.Node, m.Cluster
	return nil
}

// claim takes a directory that is empty, but for what a new file system has and what a claim that was cut off leaves.
func (d *DataDir) claim(id string) error {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); name != "lost+found" && name != markerFile+newSuffix {
			return fmt.Errorf("data directory %s holds %q and was not made by sallyport: give an empty or new directory", d.Path, name)
		}
	}
	d.Node = id
	return d.mark()
}

// Joined notes that the node belongs to a cluster. From then on a Raft log that is gone is a loss and no new beginning.
func (d *DataDir) Joined(clusterID string) error {
	if d.Cluster == clusterID {
		return nil
	}
	if d.Cluster != "" {
		return fmt.Errorf("data directory %s belongs to cluster %q, its Raft log to %q: restore this node from a backup or join it anew", d.Path, d.Cluster, clusterID)
	}
	d.Cluster = clusterID
	return d.mark()
}

func (d *DataDir) mark() error {
	data, err := json.Marshal(marker{Format: dataFormat, Node: d.Node, Cluster: d.Cluster})
	if err != nil {
		return fmt.Errorf("encode the data directory's marker: %w", err)
	}
	return d.WriteFile(markerFile, append(data, '\n'))
}

// File is the path of a file in the directory.
func (d *DataDir) File(name string) string { return filepath.Join(d.Path, name) }

// WriteFile replaces a file atomically and durably, readable by its owner alone.
func (d *DataDir) WriteFile(name string, data []byte) error {
	path := d.File(name)
	// What is there already needs no room, of which there may be none.
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	tmp := path + newSuffix
	if err := writeSynced(tmp, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
