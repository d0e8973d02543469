package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The file format of bbolt, as far as it has to be known to check a file. Numbers are in the order of the machine.
const (
	pageHeader   = 16 // id uint64, flags uint16, count uint16, overflow uint32
	pageElement  = 16 // branch: pos uint32, ksize uint32, pgid uint64; leaf: flags, pos, ksize, vsize, all uint32
	bucketHeader = 16 // root uint64, sequence uint64; an inline page follows if the root is 0
	metaSize     = 64
	metaMagic    = 0xED0CDAED
	metaVersion  = 2

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10
	bucketLeaf   = 0x01

	noFreelist   = ^uint64(0)
	firstPage    = 2 // behind the two meta pages
	maxPageBytes = 64 << 10
	maxPageDepth = 64
)

// checkPages reads all that a bbolt file refers to and returns an error if something is not where and what it has to be. bbolt itself maps
// the file into memory and takes what it finds there as addresses: damage ends the process, in a way that cannot be caught. It also
// falls back to the transaction before the last where a meta page is damaged, and so would lose what was acknowledged; its meta
// pages are written within one sector, so that a power failure does not damage them.
//
// The file must not be in use. One that is not there or empty is fine: it will be made.
func checkPages(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	return checkPagesOf(f, st.Size())
}

func checkPagesOf(r io.ReaderAt, size int64) error {
	c := &pageCheck{r: r, size: uint64(size), seen: map[uint64]bool{}}
	first, err := c.meta(0)
	if err != nil {
		return err
	}
	c.pageSize = first.pageSize
	second, err := c.meta(1)
	if err != nil {
		return err
	}
	current := first
	if second.txid > first.txid {
		current = second
	}
	c.high = current.high
	if current.freelist != noFreelist {
		if _, _, err := c.page(current.freelist, freelistPage); err != nil {
			return err
		}
	}
	return c.tree(current.root, nil, nil, 0)
}

type pageCheck struct {
	r              io.ReaderAt
	size, pageSize uint64
	high           uint64 // number of pages that the file can refer to
	seen           map[uint64]bool
}

type pageMeta struct{ pageSize, root, freelist, high, txid uint64 }

func (c *pageCheck) meta(id uint64) (m pageMeta, err error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := c.r.ReadAt(b, int64(id*c.pageSize)); err != nil {
		return m, fmt.Errorf("read meta page %d: %w", id, err)
	}
	flags := binary.NativeEndian.Uint16(b[8:])
	b = b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	m = pageMeta{pageSize: uint64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), high: u64(b[40:]), txid: u64(b[48:])}
	switch {
	case flags != metaPage || u32(b) != metaMagic || u32(b[4:]) != metaVersion || u64(b[56:]) != sum.Sum64():
		return m, fmt.Errorf("meta page %d is damaged", id)
	case m.pageSize < pageHeader+metaSize || m.pageSize > maxPageBytes || c.pageSize != 0 && m.pageSize != c.pageSize:
		return m, fmt.Errorf("meta page %d gives a page size of %d", id, m.pageSize)
	case m.high > c.size: // a bound that keeps products of page numbers small, not yet an exact one
		return m, fmt.Errorf("meta page %d speaks of %d pages, the file is shorter", id, m.high)
	}
	return m, nil
}

// page reads a page with its overflow pages, each of which can be used once.
func (c *pageCheck) page(id uint64, kinds uint16) (content []byte, flags uint16, err error) {
	header := make([]byte, pageHeader)
	if id < firstPage || id >= c.high {
		return nil, 0, fmt.Errorf("page %d does not exist", id)
	}
	if _, err := c.r.ReadAt(header, int64(id*c.pageSize)); err != nil {
		return nil, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	flags = binary.NativeEndian.Uint16(header[8:])
	pages := 1 + uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != id || flags&^kinds != 0 || flags&(flags-1) != 0 || flags == 0 || id+pages > c.high || (id+pages)*c.pageSize > c.size {
		return nil, 0, fmt.Errorf("the head of page %d is damaged", id)
	}
	for i := range pages {
		if c.seen[id+i] {
			return nil, 0, fmt.Errorf("page %d is used twice", id+i)
		}
		c.seen[id+i] = true
	}
	content = make([]byte, pages*c.pageSize)
	if _, err := c.r.ReadAt(content, int64(id*c.pageSize)); err != nil {
		return nil, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	return content, flags, nil
}

// tree checks a page and all below it. Their keys are at least low and below high, if these are not nil.
func (c *pageCheck) tree(id uint64, low, high []byte, depth int) error {
	content, flags, err := c.page(id, branchPage|leafPage)
	if err != nil {
		return err
	}
	if depth > maxPageDepth {
		return fmt.Errorf("page %d is nested too deep", id)
	}
	elements, err := pageElements(content, flags)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for i, e := range elements {
		next := high
		if i+1 < len(elements) {
			next = elements[i+1].key
		}
		if low != nil && bytes.Compare(e.key, low) < 0 || next != nil && bytes.Compare(e.key, next) >= 0 {
			return fmt.Errorf("page %d: its keys are out of order", id)
		}
		switch {
		case flags == branchPage:
			err = c.tree(e.child, e.key, next, depth+1)
		case e.bucket:
			err = c.bucket(e.value, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a bucket: the tree at its root, or the page within it.
func (c *pageCheck) bucket(value []byte, depth int) error {
	if len(value) < bucketHeader {
		return errors.New("the head of a bucket is damaged")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, nil, nil, depth)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != leafPage {
		return errors.New("the page within a bucket is damaged")
	}
	elements, err := pageElements(inline, leafPage)
	if err != nil {
		return err
	}
	for i, e := range elements {
		if e.bucket || i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 {
			return errors.New("the page within a bucket is damaged")
		}
	}
	return nil
}

type element struct {
	key, value []byte
	bucket     bool   // of a leaf
	child      uint64 // of a branch
}

func pageElements(content []byte, flags uint16) ([]element, error) {
	count := int(binary.NativeEndian.Uint16(content[10:]))
	if pageHeader+count*pageElement > len(content) || flags == branchPage && count == 0 {
		return nil, fmt.Errorf("it cannot have %d elements", count)
	}
	u32 := binary.NativeEndian.Uint32
	elements := make([]element, count)
	for i := range elements {
		at := content[pageHeader+i*pageElement:]
		var pos, ksize, vsize uint64
		if flags == branchPage {
			pos, ksize = uint64(u32(at)), uint64(u32(at[4:]))
			elements[i].child = binary.NativeEndian.Uint64(at[8:])
		} else {
			pos, ksize, vsize = uint64(u32(at[4:])), uint64(u32(at[8:])), uint64(u32(at[12:]))
			elements[i].bucket = u32(at) == bucketLeaf
			if u32(at)&^bucketLeaf != 0 {
				return nil, fmt.Errorf("element %d is of an unknown kind", i)
			}
		}
		if pos < uint64(count-i)*pageElement || pos+ksize+vsize > uint64(len(at)) || ksize == 0 {
			return nil, fmt.Errorf("element %d is not within the page", i)
		}
		elements[i].key, elements[i].value = at[pos:pos+ksize], at[pos+ksize:pos+ksize+vsize]
	}
	return elements, nil
}
