package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dataFormat is the version of the data folder that this binary writes. It is
// raised when an older binary could no longer read the folder as a whole; the
// stores in it have versions of their own.
const dataFormat = 1

const (
	lockFile    = "lock"
	formatFile  = "format"
	socketFile  = "admin.sock"
	formatMagic = "devicehub data folder, format "
	maxSockPath = 100 // bytes; sun_path holds 108
)

// DataDir is the hub's data folder, held by this process alone until Close.
// Everything that the process makes from then on is its owner's alone (umask
// 077).
type DataDir struct {
	path string
	lock *os.File
}

// LockedError says that another process holds the data folder.
type LockedError struct {
	Path string
	PID  int // 0 when unknown
}

func (e *LockedError) Error() string {
	by := "another process"
	if e.PID > 0 {
		by = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("data folder %s is in use by %s: stop that one first, or choose another folder with --data-dir", e.Path, by)
}

// FormatError says that a newer binary wrote the data folder.
type FormatError struct {
	Path      string
	Have, Can int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("data folder %s has format %d and this devicehub (%s) knows formats up to %d: install a newer devicehub, or restore a backup into another folder",
		e.Path, e.Have, versionString(), e.Can)
}

// OpenDataDir takes hold of the data folder at path and makes it if need be.
// It returns a *LockedError when another process has it, a *FormatError when
// it is of a newer format, and other errors that say what to do: the folder
// must be this user's and closed to others, for the keys of every device lie
// in it.
func OpenDataDir(path string) (*DataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makeDataDir(path); err != nil {
		return nil, err
	}
	lock, err := lockDataDir(path)
	if err != nil {
		return nil, err
	}
	d := &DataDir{path: path, lock: lock}
	if err := d.open(); err != nil {
		lock.Close()
		return nil, err
	}
	syscall.Umask(0o077)
	return d, nil
}

func (d *DataDir) open() error {
	if err := checkPrivate(d.path); err != nil {
		return err
	}
	if err := d.checkSecrets(); err != nil {
		return err
	}
	if err := d.checkFormat(); err != nil {
		return err
	}
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("data folder %s: %w; make it writable", d.path, err)
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("data folder %s: %w; make room on the disk", d.path, err)
	}
	return nil
}

// Path is the absolute path of the folder.
func (d *DataDir) Path() string { return d.path }

// Join is the path of something in the folder.
func (d *DataDir) Join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close lets go of the folder.
func (d *DataDir) Close() error {
	return d.lock.Close() // ends the flock; the file stays, so that there is no race over removing it
}

// makeDataDir makes the folder when it is missing, and refuses one in which
// something else lives.
func makeDataDir(path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("data folder: %w; choose a writable place with --data-dir", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("data folder: %w; choose another with --data-dir", err)
	case !st.IsDir():
		return fmt.Errorf("data folder %s is a file; choose another with --data-dir", path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("data folder: %w; %s", err, ownerAdvice(path, st))
	}
	stranger := ""
	for _, e := range entries {
		switch e.Name() {
		case formatFile:
			return nil
		case lockFile, "lost+found", ".gitkeep", ".keep":
		default:
			stranger = e.Name()
		}
	}
	if stranger != "" {
		return fmt.Errorf("data folder %s holds other things (%s) and no devicehub data; choose an empty folder with --data-dir", path, stranger)
	}
	return nil
}

// lockDataDir opens and locks the lock file.
func lockDataDir(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		advice := "make it writable, or choose another with --data-dir"
		if st, serr := os.Stat(path); serr == nil && errors.Is(err, fs.ErrPermission) {
			advice = ownerAdvice(path, st)
		}
		return nil, fmt.Errorf("data folder: %w; %s", err, advice)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	defer f.Close()
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w; put the data folder on a file system that has locks", name, err)
	}
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return nil, &LockedError{Path: path, PID: pid}
}

// checkPrivate demands that path is this user's and closed to others.
func checkPrivate(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if uid, ok := ownerOf(st); ok && uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to %s: %s", path, userName(uid), ownerAdvice(path, st))
	}
	if st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	mode := "600"
	if st.IsDir() {
		mode = "700"
	}
	return fmt.Errorf("%s is open to other users (mode %04o): chmod %s %s", path, st.Mode().Perm(), mode, path)
}

// checkSecrets demands the same of the files with keys in them.
func (d *DataDir) checkSecrets() error {
	for _, pattern := range []string{"*.db", "*.db-wal", "tls", "tls/*.key", "keys", "keys/*"} {
		names, err := filepath.Glob(filepath.Join(escapeGlob(d.path), pattern))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := checkPrivate(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// checkFormat reads the format file, or writes it into an empty folder.
func (d *DataDir) checkFormat() error {
	name := d.Join(formatFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.writeFormat()
	} else if err != nil {
		return fmt.Errorf("data folder: %w; make it readable", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(b)), formatMagic)
	have, err := strconv.Atoi(text)
	if !ok || err != nil || have < 1 {
		return fmt.Errorf("%s is damaged: restore the folder from a backup", name)
	}
	if have > dataFormat {
		return &FormatError{Path: d.path, Have: have, Can: dataFormat}
	}
	return nil
}

func (d *DataDir) writeFormat() error {
	tmp := d.Join(formatFile + ".new")
	err := os.WriteFile(tmp, []byte(formatMagic+strconv.Itoa(dataFormat)+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, d.Join(formatFile))
	}
	if err != nil {
		return fmt.Errorf("data folder: %w; make it writable and make room on the disk", err)
	}
	return nil
}

// ListenAdmin opens the admin socket, which only this user can reach. The
// caller holds the lock, so a socket that is there already is left over.
func (d *DataDir) ListenAdmin() (net.Listener, error) {
	name := d.Join(socketFile)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w; remove it", err)
	}
	path, done, err := socketPath(d.path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", name, err)
	}
	l.SetUnlinkOnClose(false) // by a path that may be gone by then
	if err := os.Chmod(name, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return &adminListener{Listener: l, name: name}, nil
}

// adminListener removes its socket when it closes.
type adminListener struct {
	net.Listener
	name string
}

func (l *adminListener) Close() error {
	err := l.Listener.Close()
	if rerr := os.Remove(l.name); err == nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	return err
}

// dialAdmin connects to the admin socket in the data folder at path.
func dialAdmin(path string) (net.Conn, error) {
	p, done, err := socketPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.Dial("unix", p)
}

// socketPath is a path of the admin socket that is short enough for a socket
// address: a deep folder is reached through its descriptor. done is called
// when the path was used.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketFile)
	if len(path) <= maxSockPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), socketFile), func() { f.Close() }, nil
}

func ownerOf(st fs.FileInfo) (uid int, ok bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}

// ownerAdvice says how this user comes to own path.
func ownerAdvice(path string, st fs.FileInfo) string {
	uid, ok := ownerOf(st)
	me := os.Geteuid()
	switch {
	case !ok:
		return "make it yours and readable"
	case uid == me:
		return "chmod 700 " + path
	case me == 0:
		return fmt.Sprintf("run as that user (sudo -u %s devicehub …), or chown -R root %s", userName(uid), path)
	}
	return fmt.Sprintf("sudo chown -R %s %s, or run as %s", userName(me), path, userName(uid))
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
