package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// MaxCommandBytes bounds one command in the Raft log.
const MaxCommandBytes = 1 << 20

const commandVersion = 1

// ErrUnknownCommand means that this binary is older than the one that wrote the command. The node must stop: a replica that
// skipped it would differ from the others from here on.
var ErrUnknownCommand = errors.New("command not known to this version of sallyport")

// codec holds the two CBOR modes (RFC 8949). Encoding is deterministic; decoding refuses whatever could be read in two ways.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("prepare CBOR encoding: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8RejectInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  1 << 16,
		MaxMapPairs:       1 << 12,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("prepare CBOR decoding: %w", err)
	}
	return codec{enc: enc, dec: dec}, nil
}

// Encode makes the log entry of a command: version, type (big endian), CBOR payload.
func Encode(c Command) ([]byte, error) {
	m, err := newCodec()
	if err != nil {
		return nil, err
	}
	payload, err := m.enc.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command %T: %w", c, err)
	}
	if len(payload) > MaxCommandBytes-3 {
		return nil, fmt.Errorf("command %T has %d bytes, more than the %d that one log entry may hold", c, len(payload), MaxCommandBytes)
	}
	out := make([]byte, 3, 3+len(payload))
	out[0] = commandVersion
	binary.BigEndian.PutUint16(out[1:], uint16(c.commandType()))
	return append(out, payload...), nil
}

func (m codec) decode(data []byte) (Command, error) {
	if len(data) < 3 || len(data) > MaxCommandBytes {
		return nil, fmt.Errorf("log entry of %d bytes: %w", len(data), ErrUnknownCommand)
	}
	if data[0] != commandVersion {
		return nil, fmt.Errorf("log entry of format %d: %w", data[0], ErrUnknownCommand)
	}
	typ := commandType(binary.BigEndian.Uint16(data[1:]))
	c := newCommand(typ)
	if c == nil {
		return nil, fmt.Errorf("log entry of type %d: %w", typ, ErrUnknownCommand)
	}
	if err := m.dec.Unmarshal(data[3:], c); err != nil {
		return nil, fmt.Errorf("log entry of type %d: %w: %w", typ, ErrUnknownCommand, err)
	}
	return c, nil
}
