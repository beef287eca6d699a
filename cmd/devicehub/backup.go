package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"devicehub/devices/sqlite"

	"github.com/klauspost/compress/zstd"
)

// A backup is a tar archive compressed with zstd: manifest.json, the registry's
// file, the folders of readings, of what the MQTT broker keeps and of
// certificates, and at the end checksums.json, without which it is not whole.
// Format 1 has nothing of the broker.
const (
	backupFormat    = 2
	backupManifest  = "manifest.json"
	backupChecksums = "checksums.json"

	registryFile   = "registry.db"
	readingsFolder = "readings"
	tlsFolder      = "tls"
	brokerFolder   = "mqtt"
)

// manifest says what a backup is.
type manifest struct {
	Kind        string `json:"kind"` // always "devicehub backup"
	Format      int    `json:"format"`
	DataFormat  int    `json:"data_format"`
	MadeAt      int64  `json:"made_at"` // ms since epoch
	Version     string `json:"version"` // of the binary that made it
	WithoutKeys bool   `json:"without_keys"`
}

const backupKind = "devicehub backup"

// snapshotFunc makes a consistent copy of a store, while it is in use, in a
// folder that does not exist yet.
type snapshotFunc func(ctx context.Context, dir string) error

// writeBackup writes everything in the data folder to w while the hub runs;
// readings and broker make the copies of theirs. withoutKeys leaves out the
// signing keys, the certificates' keys, and the one that addresses in the audit are hashed with.
func writeBackup(ctx context.Context, w io.Writer, dir *DataDir, log *slog.Logger, readings, broker snapshotFunc, withoutKeys bool) (err error) {
	scratch, err := os.MkdirTemp(dir.Path(), ".backup-*") // the same disk, so that copies can be links
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	// Readings first: a device made meanwhile has none, and no reading is of a
	// device that the registry does not know.
	copied := filepath.Join(scratch, readingsFolder)
	if err := readings(ctx, copied); err != nil {
		return fmt.Errorf("readings: %w", err)
	}
	kept := filepath.Join(scratch, brokerFolder)
	if err := broker(ctx, kept); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	registry := filepath.Join(scratch, registryFile)
	if err := copyRegistry(ctx, dir.Join(registryFile), registry, log, withoutKeys); err != nil {
		return fmt.Errorf("registry: %w", err)
	}

	zw, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	a := &archiver{ctx: ctx, tar: tar.NewWriter(zw), sums: map[string]string{}}
	a.json(backupManifest, manifest{
		Kind: backupKind, Format: backupFormat, DataFormat: dataFormat,
		MadeAt: time.Now().UnixMilli(), Version: versionString(), WithoutKeys: withoutKeys,
	})
	a.file(registryFile, registry)
	a.folder(readingsFolder, copied)
	a.folder(brokerFolder, kept)
	if !withoutKeys {
		a.folder(tlsFolder, dir.Join(tlsFolder))
	}
	a.json(backupChecksums, a.sums)
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return a.err // w must not look like a whole backup
	}
	return zw.Close()
}

// copyRegistry makes a consistent copy of the registry's file, which other
// connections may be writing.
func copyRegistry(ctx context.Context, from, to string, log *slog.Logger, withoutKeys bool) error {
	if !withoutKeys {
		return vacuumInto(ctx, from, to)
	}
	full := to + ".full"
	if err := vacuumInto(ctx, from, full); err != nil {
		return err
	}
	db, err := sqlite.Open(ctx, full, log)
	if err != nil {
		return err
	}
	state, err := db.LoadIdentity(ctx)
	if err == nil {
		for _, k := range state.Keys {
			err = errors.Join(err, db.DeleteKey(ctx, k.KID))
		}
		err = errors.Join(err, db.DropAuditKey(ctx))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// A deleted row stays in the file until it is written anew.
	return errors.Join(vacuumInto(ctx, full, to), os.Remove(full))
}

// vacuumInto writes the database file from, as it stands at this moment, to a
// new file. SQLite: "VACUUM INTO", lang_vacuum.html.
func vacuumInto(ctx context.Context, from, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite takes an empty file and keeps its mode
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	u := url.URL{Scheme: "file", Path: from, RawQuery: url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)"}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return errors.Join(err, db.Close())
}

// archiver adds entries until one fails.
type archiver struct {
	ctx  context.Context
	tar  *tar.Writer
	sums map[string]string // SHA-256 by name
	err  error
}

func (a *archiver) add(name string, size int64, modified time.Time, r io.Reader) {
	if a.err != nil {
		return
	}
	if a.err = context.Cause(a.ctx); a.err != nil {
		return
	}
	a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: modified.Truncate(time.Second)})
	if a.err != nil {
		return
	}
	sum := sha256.New()
	if _, err := io.Copy(a.tar, io.TeeReader(r, sum)); err != nil {
		a.err = fmt.Errorf("%s: %w", name, err)
		return
	}
	a.sums[name] = hex.EncodeToString(sum.Sum(nil))
}

func (a *archiver) json(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	a.add(name, int64(len(b)), time.Now(), bytes.NewReader(b))
}

func (a *archiver) file(name, from string) {
	if a.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		a.err = err
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		a.err = err
		return
	}
	a.add(name, st.Size(), st.ModTime(), io.LimitReader(f, st.Size()))
}

// folder adds every file below from; a folder that is missing adds nothing.
func (a *archiver) folder(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p == from && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.Type().IsRegular() {
			rel, err := filepath.Rel(from, p)
			if err != nil {
				return err
			}
			a.file(path.Join(name, filepath.ToSlash(rel)), p)
		}
		return a.err
	})
	if a.err == nil {
		a.err = err
	}
}
