package raftfsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/hashicorp/go-memdb"
)

// A snapshot is the magic, the index, then records as (table number, length, CBOR), then a trailer with their count and the CRC-32C
// of everything before it.
const (
	snapshotMagic  = "sallyport-state-1\n"
	maxRecordBytes = MaxCommandBytes
	trailerMark    = 0
)

// ErrSnapshot means that a snapshot is damaged, cut short or of a later version.
var ErrSnapshot = errors.New("unusable snapshot of the replicated state")

// section is one table in a snapshot. Numbers are part of the format.
type section struct {
	number byte
	table  string
	fresh  func() any
}

func sections() []section {
	return []section{
		{1, tableCluster, func() any { return new(Cluster) }},
		{2, tableAgents, func() any { return new(Agent) }},
		{3, tableGatewayTokens, func() any { return new(GatewayToken) }},
		{4, tableAdminTokens, func() any { return new(AdminToken) }},
		{5, tableUpstreams, func() any { return new(Upstream) }},
		{6, tableCredentials, func() any { return new(Credential) }},
		{7, tablePolicies, func() any { return new(Policy) }},
		{8, tableRevocations, func() any { return new(Revocation) }},
	}
}

// Snapshot is a frozen copy of the state that can be written while the state moves on.
type Snapshot struct {
	codec codec
	view  View
}

// Snapshot freezes the state as it stands; it costs nothing.
func (s *State) Snapshot() *Snapshot { return &Snapshot{codec: s.codec, view: s.Read()} }

// Index is the log index that the snapshot reflects.
func (s *Snapshot) Index() uint64 { return s.view.index }

// Write streams the snapshot.
func (s *Snapshot) Write(w io.Writer) error {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	buf := bufio.NewWriterSize(w, 64<<10)
	out := io.MultiWriter(buf, sum)
	head := binary.BigEndian.AppendUint64([]byte(snapshotMagic), s.view.index)
	if _, err := out.Write(head); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	var count uint64
	for _, sec := range sections() {
		n, err := s.writeTable(out, sec)
		if err != nil {
			return fmt.Errorf("write snapshot of %s: %w", sec.table, err)
		}
		count += n
	}
	if _, err := out.Write(binary.BigEndian.AppendUint64([]byte{trailerMark}, count)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := binary.Write(buf, binary.BigEndian, sum.Sum32()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func (s *Snapshot) writeTable(out io.Writer, sec section) (uint64, error) {
	it, err := s.view.txn.Get(sec.table, "id")
	if err != nil {
		return 0, err
	}
	var count uint64
	for r := it.Next(); r != nil; r = it.Next() {
		body, err := s.codec.enc.Marshal(r)
		if err != nil {
			return 0, err
		}
		head := binary.BigEndian.AppendUint32([]byte{sec.number}, uint32(len(body)))
		if _, err := out.Write(head); err != nil {
			return 0, err
		}
		if _, err := out.Write(body); err != nil {
			return 0, err
		}
		count++
	}
	return count, nil
}

// Restore replaces the whole state by a snapshot. A damaged one changes nothing. Watches of the replaced state fire.
func (s *State) Restore(r io.Reader) error {
	db, err := newDB()
	if err != nil {
		return err
	}
	in := &reader{r: bufio.NewReaderSize(r, 64<<10), sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	index, err := s.restoreInto(db, in)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.applied = db, index
	close(s.moved)
	close(s.replaced)
	s.moved, s.replaced = make(chan struct{}), make(chan struct{})
	return nil
}

func (s *State) restoreInto(db *memdb.MemDB, in *reader) (index uint64, err error) {
	head := make([]byte, len(snapshotMagic)+8)
	if err := in.full(head); err != nil {
		return 0, err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return 0, errors.New("it does not begin like a snapshot of this version")
	}
	index = binary.BigEndian.Uint64(head[len(snapshotMagic):])
	byNumber := map[byte]section{}
	for _, sec := range sections() {
		byNumber[sec.number] = sec
	}
	tx := db.Txn(true)
	defer tx.Abort()
	var count uint64
	for {
		mark, err := in.byte()
		if err != nil {
			return 0, err
		}
		if mark == trailerMark {
			break
		}
		sec, ok := byNumber[mark]
		if !ok {
			return 0, fmt.Errorf("record %d is of unknown kind %d", count+1, mark)
		}
		if err := s.restoreRecord(tx, in, sec); err != nil {
			return 0, fmt.Errorf("record %d (%s): %w", count+1, sec.table, err)
		}
		count++
	}
	if err := in.trailer(count); err != nil {
		return 0, err
	}
	tx.Commit()
	return index, nil
}

func (s *State) restoreRecord(tx *memdb.Txn, in *reader, sec section) error {
	var length [4]byte
	if err := in.full(length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxRecordBytes {
		return fmt.Errorf("%d bytes, more than a record can have", n)
	}
	body := make([]byte, n)
	if err := in.full(body); err != nil {
		return err
	}
	r := sec.fresh()
	if err := s.codec.dec.Unmarshal(body, r); err != nil {
		return err
	}
	return tx.Insert(sec.table, r)
}

// reader sums what it reads.
type reader struct {
	r   *bufio.Reader
	sum hash.Hash32
}

func (r *reader) full(p []byte) error {
	if _, err := io.ReadFull(r.r, p); err != nil {
		return fmt.Errorf("cut short: %w", err)
	}
	r.sum.Write(p)
	return nil
}

func (r *reader) byte() (byte, error) {
	var b [1]byte
	err := r.full(b[:])
	return b[0], err
}

func (r *reader) trailer(count uint64) error {
	var want [8]byte
	if err := r.full(want[:]); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint64(want[:]); n != count {
		return fmt.Errorf("%d records, but it says %d", count, n)
	}
	got := r.sum.Sum32()
	var stored uint32
	if err := binary.Read(r.r, binary.BigEndian, &stored); err != nil {
		return fmt.Errorf("cut short: %w", err)
	}
	if got != stored {
		return errors.New("its checksum does not match")
	}
	return nil
}
