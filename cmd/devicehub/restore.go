package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/sqlite"

	"github.com/klauspost/compress/zstd"
)

// restoreFrom is the restoreFunc. It unpacks and checks the backup beside
// what is there, sees to it that nothing revoked since then comes back
// (configs/operations.md#saving-it), and only then changes the two over; what was there stays in a
// folder "before-restore-…".
func restoreFrom(ctx context.Context, p *Process, backup io.Reader, revokeAll bool) (facts []string, err error) {
	staging, err := os.MkdirTemp(p.Data.Path(), ".restore-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	m, err := unpack(ctx, backup, staging)
	if err != nil {
		return nil, fmt.Errorf("the backup: %w; nothing was changed", err)
	}
	facts = append(facts, "the backup was made "+when(m.MadeAt)+" by devicehub "+m.Version)
	more, err := reconcile(ctx, p, filepath.Join(staging, registryFile), m, revokeAll)
	if err != nil {
		return nil, fmt.Errorf("the backup: %w; nothing was changed", err)
	}
	facts = append(facts, more...)
	kept, err := changeOver(p.Data, staging)
	if err != nil {
		return nil, err
	}
	if kept != "" {
		facts = append(facts, "what was there before is in "+kept+"; remove it when all is well")
	}
	return append(facts, "restored; start the hub with `devicehub serve`"), nil
}

// reconcile makes the restored registry one in which nothing is good that is
// known, or must be feared, to have been revoked.
func reconcile(ctx context.Context, p *Process, restored string, m manifest, revokeAll bool) (facts []string, err error) {
	db, err := sqlite.Open(ctx, restored, p.Log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	next, err := readStanding(ctx, db)
	if err != nil {
		return nil, err
	}
	present, readErr := presentStanding(ctx, p)
	switch {
	case readErr != nil:
		facts = append(facts, "the registry in the data folder cannot be read ("+oneLine(readErr)+"), so nothing of it is kept")
		present = nil
	case present != nil && !next.sameHub(present):
		facts = append(facts, "the data folder was another hub's, so nothing of it is kept")
		present = nil
	}
	now := time.Now()
	if present != nil {
		facts = append(facts, next.keepRevoked(present)...)
	} else {
		facts = append(facts, next.unknownSince()...)
	}
	if len(next.state.Keys) == 0 {
		facts = append(facts, "there are no signing keys: every device and service account needs a new token")
	}
	if revokeAll {
		facts = append(facts, next.revokeAll())
	}
	next.oneActiveKey(now)
	if err := next.write(ctx, db); err != nil {
		return nil, err
	}
	return facts, recordRestore(ctx, db, m, revokeAll)
}

// presentStanding reads the registry that is in the data folder now; nil when
// there is none.
func presentStanding(ctx context.Context, p *Process) (*standing, error) {
	name := p.Data.Join(registryFile)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	db, err := sqlite.Open(ctx, name, p.Log)
	if err != nil {
		return nil, err
	}
	s, err := readStanding(ctx, db)
	return s, errors.Join(err, db.Close())
}

// recordRestore writes the restore into the audit that was restored.
func recordRestore(ctx context.Context, db *sqlite.DB, m manifest, revokeAll bool) error {
	audit, err := db.Audit(ctx, time.Now)
	if err != nil {
		return err
	}
	cli := devices.CLI()
	audit.Record(devices.Origin{Via: "cli"}, devices.AuditEntry{
		Actor: cli.String(), Via: "cli", Action: "restore", Target: "hub", Outcome: "ok",
		After: map[string]any{"backup_made_at": m.MadeAt, "revoke_all": revokeAll},
	})
	return audit.Flush(ctx)
}

// changeOver puts what is in staging in the place of what is there, and
// returns the folder in which the latter is kept, "" if there was nothing.
func changeOver(dir *DataDir, staging string) (kept string, err error) {
	kept = dir.Join("before-restore-" + time.Now().UTC().Format("20060102T150405Z"))
	if err := os.Mkdir(kept, 0o700); err != nil {
		return "", err
	}
	names := []string{registryFile, registryFile + "-wal", registryFile + "-shm", readingsFolder, brokerFolder}
	if _, err := os.Stat(filepath.Join(staging, tlsFolder)); err == nil {
		names = append(names, tlsFolder)
	}
	var undo []func() error
	move := func(from, to string) error {
		err := os.Rename(from, to)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			undo = append(undo, func() error { return os.Rename(to, from) })
		}
		return err
	}
	for _, name := range names {
		err = errors.Join(err, move(dir.Join(name), filepath.Join(kept, name)))
	}
	had := len(undo) > 0
	for _, name := range names {
		if err == nil {
			err = move(filepath.Join(staging, name), dir.Join(name))
		}
	}
	if err == nil {
		err = syncFolder(dir.Path())
	}
	if err != nil {
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
		return "", errors.Join(fmt.Errorf("change over: %w", err), os.Remove(kept))
	}
	if !had {
		return "", os.Remove(kept)
	}
	return kept, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unpack writes the files of a backup into dir and returns its manifest. It
// refuses what is no backup, is of a newer format, is not whole, or holds
// anything but files where a backup has them.
func unpack(ctx context.Context, r io.Reader, dir string) (manifest, error) {
	var m manifest
	notOurs := errors.New("this is no file that `devicehub backup` wrote, or not all of it; take another backup")
	zr, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return m, notOurs
	}
	defer zr.Close()
	tr := tar.NewReader(zr)
	sums := map[string]string{}
	for {
		if err := context.Cause(ctx); err != nil {
			return m, err
		}
		h, err := tr.Next()
		switch {
		case err != nil && len(sums) == 0:
			return m, notOurs
		case errors.Is(err, io.EOF):
			return m, errors.New("its end is missing; take another backup")
		case err != nil:
			return m, fmt.Errorf("%w; take another backup", err)
		case h.Typeflag != tar.TypeReg:
			return m, fmt.Errorf("%q is no file", h.Name)
		}
		switch {
		case len(sums) == 0:
			b, err := readEntry(tr)
			if err != nil || h.Name != backupManifest || json.Unmarshal(b, &m) != nil || m.Kind != backupKind {
				return m, notOurs
			}
			if m.Format > backupFormat || m.DataFormat > dataFormat {
				return m, fmt.Errorf("devicehub %s made it in a newer format; restore with that version", m.Version)
			}
			sum := sha256.Sum256(b)
			sums[h.Name] = hex.EncodeToString(sum[:])
		case h.Name == backupChecksums:
			b, err := readEntry(tr)
			if err != nil {
				return m, fmt.Errorf("%w; take another backup", err)
			}
			return m, wholeBackup(b, sums, tr, zr)
		default:
			sum, err := unpackFile(tr, h, dir)
			if err != nil {
				return m, err
			}
			sums[h.Name] = sum
		}
	}
}

// wholeBackup holds what was read against the checksums at the end.
func wholeBackup(b []byte, got map[string]string, tr *tar.Reader, rest io.Reader) error {
	var want map[string]string
	if err := json.Unmarshal(b, &want); err != nil {
		return errors.New("its checksums are damaged; take another backup")
	}
	if len(got) != len(want) {
		return fmt.Errorf("it holds %d files of %d; take another backup", len(got), len(want))
	}
	for name, sum := range want {
		if got[name] != sum {
			return fmt.Errorf("%s is damaged in it; take another backup", name)
		}
	}
	if got[registryFile] == "" {
		return errors.New("it holds no registry; take another backup")
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind its end; take another backup")
	}
	_, err := io.Copy(io.Discard, rest) // the compression has a checksum at its end
	return err
}

// readEntry reads a small file of the archive.
func readEntry(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	if n, err := io.Copy(&b, io.LimitReader(r, 64<<20)); err != nil || n == 64<<20 {
		return nil, errors.Join(err, errors.New("an entry is too large"))
	}
	return b.Bytes(), nil
}

// unpackFile writes one file of the archive and returns its checksum.
func unpackFile(r io.Reader, h *tar.Header, dir string) (sum string, err error) {
	name := path.Clean(h.Name)
	top, _, _ := strings.Cut(name, "/")
	inside := name == registryFile || name != top && (top == readingsFolder || top == brokerFolder || top == tlsFolder)
	if !inside || name != h.Name || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q has no place in a backup", h.Name)
	}
	to := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return "", err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(f, io.TeeReader(r, hash))
	err = errors.Join(err, f.Sync(), f.Close())
	var ours *fs.PathError
	switch {
	case errors.As(err, &ours):
		return "", err // a full disk
	case err != nil:
		return "", fmt.Errorf("%s is damaged in it (%w); take another backup", h.Name, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
