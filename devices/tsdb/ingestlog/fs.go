package ingestlog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FS is the part of a file system that a log uses, so that tests can make it
// fail.
type FS interface {
	Create(path string) (File, error) // it must not exist
	Open(path string) (File, error)   // to read and write
	List(dir string) ([]string, error)
	Remove(path string) error
	SyncDir(dir string) error
	// Free is the room left for this process, and the size of the file system.
	Free(dir string) (free, total int64, err error)
}

// File is an open segment.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error // of the data, and the size
	Truncate(size int64) error
	Allocate(size int64) error // reserves room; nil where that is not known
	Size() (int64, error)
}

// Disk is the operating system's FS.
type Disk struct{}

type diskFile struct{ *os.File }

// Create makes a file that must not exist.
func (Disk) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// Open opens a file to read and write.
func (Disk) Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// List lists the names in a directory.
func (Disk) List(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	names := make([]string, len(es))
	for i, e := range es {
		names[i] = e.Name()
	}
	return names, err
}

// Remove deletes a file.
func (Disk) Remove(path string) error { return os.Remove(path) }

// SyncDir makes creations and removals durable.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (f diskFile) Sync() error { return datasync(f.File) }

func (f diskFile) Allocate(size int64) error { return allocate(f.File, size) }

func (f diskFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// isFull reports whether err says that there is no room.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
