package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// Neither bbolt nor raft notices a flipped bit in what they store, which would change the state, or the vote, of this replica alone. So
// every entry and every value carries a checksum, and each start reads them all.

const sumBytes = 4

var errSum = errors.New("its checksum does not match")

func checksum(parts ...[]byte) []byte {
	table, sum := crc32.MakeTable(crc32.Castagnoli), uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return binary.BigEndian.AppendUint32(nil, sum)
}

func entrySum(l *raft.Log) []byte {
	head := binary.BigEndian.AppendUint64(nil, l.Index)
	head = binary.BigEndian.AppendUint64(head, l.Term)
	return checksum(append(head, byte(l.Type)), l.Data)
}

// withSum is a copy of an entry with its checksum: raft still uses the entry itself.
func withSum(l *raft.Log) *raft.Log {
	summed := *l
	summed.Extensions = entrySum(l)
	return &summed
}

// StoreLogs implements raft.LogStore.
func (s *store) StoreLogs(logs []*raft.Log) error {
	summed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		summed[i] = withSum(l)
	}
	return s.full.do("the Raft log", func() error { return s.BoltStore.StoreLogs(summed) })
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// GetLog implements raft.LogStore.
func (s *store) GetLog(index uint64, l *raft.Log) error {
	err := s.BoltStore.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) {
		return raft.ErrLogNotFound // raft compares
	}
	if err == nil && (l.Index != index || string(l.Extensions) != string(entrySum(l))) {
		err = errSum
	}
	if err != nil {
		return s.damaged(fmt.Sprintf("entry %d", index), err)
	}
	return nil
}

// Set implements raft.StableStore.
func (s *store) Set(k, v []byte) error {
	summed := append(checksum(k, v), v...)
	return s.full.do("the Raft vote", func() error { return s.BoltStore.Set(k, summed) })
}

// Get implements raft.StableStore.
func (s *store) Get(k []byte) ([]byte, error) {
	summed, err := s.BoltStore.Get(k)
	if err != nil {
		return nil, err // as it is: raft compares its text
	}
	if len(summed) < sumBytes || string(checksum(k, summed[sumBytes:])) != string(summed[:sumBytes]) {
		return nil, s.damaged(string(k), errSum)
	}
	return summed[sumBytes:], nil
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(k []byte, v uint64) error {
	return s.Set(k, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(k []byte) (uint64, error) {
	v, err := s.Get(k)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, s.damaged(string(k), fmt.Errorf("it has %d bytes", len(v)))
	}
	return binary.BigEndian.Uint64(v), nil
}
