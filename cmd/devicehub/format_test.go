package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestFormatPage holds FORMAT.md to a backup: what it is made of, in that order, and the
// manifest.
func TestFormatPage(t *testing.T) {
	h := newTestHub(t, filepath.Join(t.TempDir(), "data"))
	defer h.close()
	if err := errors.Join(os.Mkdir(h.dir.Join(tlsFolder), 0o700), os.WriteFile(h.dir.Join(tlsFolder, "self.key"), []byte("key"), 0o600)); err != nil {
		t.Fatal(err)
	}
	zr, err := zstd.NewReader(bytes.NewReader(h.backup(false)))
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	var names []string
	var have []byte
	for r := tar.NewReader(zr); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		names = append(names, head.Name)
		if head.Name == backupManifest {
			if have, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []string{backupManifest, registryFile, "readings/log/1.seg", "mqtt/1.log", "tls/self.key", backupChecksums}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	for _, b := range blocksOf(t, "cmd/devicehub/FORMAT.md") {
		if len(b.how) != 2 || b.how[1] != "manifest" {
			continue
		}
		var page, got map[string]any
		if err := errors.Join(json.Unmarshal([]byte(b.text), &page), json.Unmarshal(have, &got)); err != nil {
			t.Fatal(err)
		}
		for _, varies := range []string{"made_at", "version"} {
			page[varies], got[varies] = nil, nil
		}
		if why := differs("manifest", got, page); why != "" {
			t.Error(why)
		}
		return
	}
	t.Error("FORMAT.md has no manifest")
}
