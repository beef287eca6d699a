package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/sqlite"

	"github.com/klauspost/compress/zstd"
)

// testHub is a data folder with people and devices in it.
type testHub struct {
	t    *testing.T
	dir  *DataDir
	db   *sqlite.DB
	reg  *devices.Registry
	ids  *identity.Service
	self devices.Actor
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newTestHub(t *testing.T, path string) *testHub {
	t.Helper()
	h := &testHub{t: t, dir: openDir(t, path), self: devices.CLI()}
	h.open()
	if _, err := h.ids.Prepare(t.Context(), "first password"); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *testHub) open() {
	h.t.Helper()
	var err error
	if h.db, err = sqlite.Open(h.t.Context(), h.dir.Join(registryFile), quiet()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.db.Close() })
	if h.reg, err = devices.OpenRegistry(h.t.Context(), h.db); err != nil {
		h.t.Fatal(err)
	}
	if h.ids, err = identity.Open(h.t.Context(), h.db, h.reg, identity.Config{TokenTTL: time.Hour, Logger: quiet()}); err != nil {
		h.t.Fatal(err)
	}
}

// close ends the hub, keeping its folder.
func (h *testHub) close() {
	h.t.Helper()
	if err := errors.Join(h.db.Close(), h.dir.Close()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *testHub) add(ids ...devices.ID) map[devices.ID]string {
	h.t.Helper()
	tokens := map[devices.ID]string{}
	for _, id := range ids {
		made, err := h.ids.CreateDevices(h.t.Context(), h.self, devices.Origin{Via: "cli"},
			[]*devices.Device{{ID: id, Kinds: []devices.Kind{devices.KindSensor}, Enabled: true}}, identity.TokenOptions{})
		if err != nil {
			h.t.Fatal(err)
		}
		tokens[id] = made[0].Token.Token
	}
	return tokens
}

// backup makes one, with a file of readings.
func (h *testHub) backup(withoutKeys bool) []byte {
	h.t.Helper()
	var b bytes.Buffer
	err := writeBackup(h.t.Context(), &b, h.dir, quiet(), func(_ context.Context, dir string) error {
		return errors.Join(os.MkdirAll(filepath.Join(dir, "log"), 0o700), os.WriteFile(filepath.Join(dir, "log", "1.seg"), []byte("readings"), 0o600))
	}, func(_ context.Context, dir string) error {
		return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "1.log"), []byte("retained"), 0o600))
	}, withoutKeys)
	if err != nil {
		h.t.Fatal(err)
	}
	if left, _ := filepath.Glob(h.dir.Join(".backup-*")); len(left) > 0 {
		h.t.Errorf("got %v left behind", left)
	}
	return b.Bytes()
}

func restore(t *testing.T, path string, backup []byte, revokeAll bool) string {
	t.Helper()
	dir := openDir(t, path)
	defer dir.Close()
	facts, err := restoreFrom(t.Context(), &Process{Data: dir, Log: quiet(), Config: Default()}, bytes.NewReader(backup), revokeAll)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(dir.Join(".restore-*")); len(left) > 0 {
		t.Errorf("got %v left behind", left)
	}
	return strings.Join(facts, "\n")
}

// codes is how each device's token is answered.
func (h *testHub) codes(tokens map[devices.ID]string) map[devices.ID]devices.Code {
	out := map[devices.ID]devices.Code{}
	for id, token := range tokens {
		_, err := h.ids.Verify(token)
		out[id] = devices.CodeOf(err)
	}
	return out
}

func (h *testHub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// A restore over the hub's own folder brings back what was lost and nothing
// that was revoked since the backup.
func TestRestoreKeepsWhatWasRevoked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	h := newTestHub(t, path)
	ctx, cli := t.Context(), devices.Origin{Via: "cli"}
	tokens := h.add("fine", "revoked", "disabled", "lost")
	user := func(name string) {
		_, err := h.ids.CreateUser(ctx, h.self, cli, identity.NewUser{Username: name, Password: "old password", Role: devices.RoleAdmin})
		h.must(err)
	}
	user("stays")
	user("leaves")
	_, kept, err := h.ids.CreateAccount(ctx, h.self, cli, identity.NewAccount{Name: "kept", Rights: devices.RightRead})
	h.must(err)
	_, ended, err := h.ids.CreateAccount(ctx, h.self, cli, identity.NewAccount{Name: "ended", Rights: devices.RightRead})
	h.must(err)
	in, err := h.ids.Login(ctx, cli, "stays", "old password", "")
	h.must(err)

	backup := h.backup(false)

	epoch, err := h.db.ReserveEpochs(ctx, 1000)
	h.must(err)
	h.must(h.ids.RevokeDevice(ctx, h.self, cli, "revoked"))
	_, err = h.reg.Update(ctx, "disabled", func(d *devices.Device) error { d.Enabled = false; return nil })
	h.must(err)
	changed, err := h.reg.Update(ctx, "disabled", func(d *devices.Device) error { d.Notes = "broken"; return nil })
	h.must(err)
	present := changed.Ver
	leaves := devices.RoleOperator
	left, err := h.ids.UpdateUser(ctx, h.self, cli, "leaves", identity.UserPatch{Role: &leaves})
	h.must(err)
	h.must(h.ids.DeleteUser(ctx, h.self, cli, "leaves"))
	h.must(h.ids.DeleteAccount(ctx, h.self, cli, "ended"))
	newPassword, viewer := "new password", devices.RoleViewer
	_, err = h.ids.UpdateUser(ctx, h.self, cli, "stays", identity.UserPatch{Password: &newPassword, Role: &viewer})
	h.must(err)
	_, err = h.ids.RotateKey(ctx, h.self, cli)
	h.must(err)
	late, err := h.ids.IssueDevice(ctx, h.self, cli, "fine", identity.TokenOptions{})
	h.must(err)
	h.must(os.Mkdir(h.dir.Join(readingsFolder), 0o700))
	h.close()

	facts := restore(t, path, backup, false)
	for _, want := range []string{"stays so", "disabled: leaves", "stay deleted: ended", "before-restore-"} {
		if !strings.Contains(facts, want) {
			t.Errorf("facts: got %q, want %q in it", facts, want)
		}
	}
	after := &testHub{t: t, dir: openDir(t, path), self: h.self}
	after.open()
	got := after.codes(tokens)
	for id, want := range map[devices.ID]devices.Code{"fine": "", "lost": "", "revoked": devices.CodeTokenRevoked, "disabled": devices.CodeDeviceDisabled} {
		if got[id] != want {
			t.Errorf("token of %s: got %q, want %q", id, got[id], want)
		}
	}
	if _, err := after.ids.Verify(late.Token); err != nil {
		t.Errorf("token under the newer key: %v", err)
	}
	if _, err := after.ids.Verify(kept); err != nil {
		t.Errorf("service account that was kept: %v", err)
	}
	if _, err := after.ids.Verify(ended); err == nil {
		t.Error("a deleted service account is good again")
	}
	if _, err := after.ids.Verify(in.Token); err == nil {
		t.Error("a session lived through the restore")
	}
	if _, err := after.ids.Login(ctx, cli, "stays", "old password", ""); err == nil {
		t.Error("the old password is good again")
	}
	// A version that somebody saw since the backup is not given out again.
	if d, _ := after.reg.Get("disabled"); d.Ver <= present {
		t.Errorf("version of a device that was changed: got %d, want more than %d", d.Ver, present)
	}
	if u, err := after.ids.User(after.self, "leaves"); err != nil || u.Ver <= left.Ver {
		t.Errorf("version of a user who is back: got %d, %v, want more than %d", u.Ver, err, left.Ver)
	}
	if u, err := after.ids.User(after.self, "stays"); err != nil || u.Role != devices.RoleViewer {
		t.Errorf("got role %q, %v, want the one taken away to stay away", u.Role, err)
	}
	if _, err := after.ids.Login(ctx, cli, "leaves", "old password", ""); err == nil {
		t.Error("a deleted user may sign in again")
	}
	if next, err := after.db.ReserveEpochs(ctx, 1); err != nil || next != epoch+1000 {
		t.Errorf("got the next epoch %d, %v, want %d: those given out since the backup stay behind", next, err, epoch+1000)
	}
	keys, err := after.ids.Keys(after.self)
	h.must(err)
	active := slices.DeleteFunc(keys, func(k identity.KeyInfo) bool { return k.State != "active" })
	if len(active) != 1 {
		t.Errorf("got %d signing keys, want 1", len(active))
	}
	if b, err := os.ReadFile(after.dir.Join(readingsFolder, "log", "1.seg")); err != nil || string(b) != "readings" {
		t.Errorf("readings: got %q, %v", b, err)
	}
	if b, err := os.ReadFile(after.dir.Join(brokerFolder, "1.log")); err != nil || string(b) != "retained" {
		t.Errorf("what the broker keeps: got %q, %v", b, err)
	}
}

func TestRestoreOverNothing(t *testing.T) {
	h := newTestHub(t, filepath.Join(t.TempDir(), "data"))
	tokens := h.add("a")
	backup := h.backup(false)
	later, err := h.ids.RotateDevice(t.Context(), h.self, devices.Origin{}, "a", identity.TokenOptions{})
	h.must(err)
	epoch, err := h.db.ReserveEpochs(t.Context(), 1_000_000)
	h.must(err)
	h.close()

	for _, revokeAll := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "data")
		facts := restore(t, path, backup, revokeAll)
		if !strings.Contains(facts, "unknown") || strings.Contains(facts, "before-restore") {
			t.Errorf("facts: got %q", facts)
		}
		after := &testHub{t: t, dir: openDir(t, path), self: h.self}
		after.open()
		if next, err := after.db.ReserveEpochs(t.Context(), 1); err != nil || next < epoch+1_000_000 {
			t.Errorf("got the next epoch %d, %v, want one beyond those given out since the backup", next, err)
		}
		tokens["later"] = later.Token
		codes := after.codes(tokens)
		want := devices.Code("")
		if revokeAll {
			want = devices.CodeTokenRevoked
		}
		if codes["a"] != want || codes["later"] != want {
			t.Errorf("revoke-all %t: got %v, want %q", revokeAll, codes, want)
		}
		fresh, err := after.ids.IssueDevice(t.Context(), h.self, devices.Origin{}, "a", identity.TokenOptions{})
		if err != nil || fresh.Gen <= later.Gen+unknownGens/2 {
			t.Errorf("new token: got generation %d, %v, want one far beyond %d", fresh.Gen, err, later.Gen)
		}
	}
}

func TestRestoreOverAnotherHub(t *testing.T) {
	h := newTestHub(t, filepath.Join(t.TempDir(), "data"))
	tokens := h.add("a")
	backup := h.backup(false)
	h.close()
	path := filepath.Join(t.TempDir(), "data")
	other := newTestHub(t, path)
	foreign := other.add("b")
	other.close()
	if facts := restore(t, path, backup, false); !strings.Contains(facts, "another hub's") || !strings.Contains(facts, "before-restore") {
		t.Errorf("facts: got %q", facts)
	}
	after := &testHub{t: t, dir: openDir(t, path), self: h.self}
	after.open()
	if got := after.codes(tokens)["a"]; got != "" {
		t.Errorf("own token: got %q, want it good", got)
	}
	if got := after.codes(foreign)["b"]; got == "" {
		t.Error("the other hub's token is good")
	}
}

func TestBackupWithoutKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	h := newTestHub(t, path)
	tokens := h.add("a")
	state, err := h.db.LoadIdentity(t.Context())
	h.must(err)
	seed := state.Keys[0].Seed
	audit, err := h.db.Secret(t.Context(), "audit.ip_key", 32)
	h.must(err)
	h.must(os.Mkdir(h.dir.Join("tls"), 0o700))
	write(t, h.dir.Join("tls", "self-signed.key"), "certificate key")
	holds := func(backup []byte, secret []byte) bool {
		zr, err := zstd.NewReader(bytes.NewReader(backup))
		h.must(err)
		defer zr.Close()
		all, err := io.ReadAll(zr)
		h.must(err)
		return bytes.Contains(all, secret)
	}
	with, without := h.backup(false), h.backup(true)
	for _, secret := range [][]byte{seed, []byte("certificate key"), audit} {
		if !holds(with, secret) || holds(without, secret) {
			t.Errorf("a key: got %t with and %t without, want true and false", holds(with, secret), holds(without, secret))
		}
	}
	h.close()

	// Over the hub's own folder, the keys there stay.
	restore(t, path, without, false)
	after := &testHub{t: t, dir: openDir(t, path), self: h.self}
	after.open()
	if got := after.codes(tokens)["a"]; got != "" {
		t.Errorf("over the own folder: got %q, want the token good", got)
	}
	if _, err := os.Stat(after.dir.Join("tls", "self-signed.key")); err != nil {
		t.Errorf("certificate: %v", err)
	}
	fresh := filepath.Join(t.TempDir(), "data")
	if facts := restore(t, fresh, without, false); !strings.Contains(facts, "no signing keys") {
		t.Errorf("over nothing: got %q", facts)
	}
	other := &testHub{t: t, dir: openDir(t, fresh), self: h.self}
	other.open()
	if made, err := other.db.Secret(t.Context(), "audit.ip_key", 32); err != nil || len(made) != 32 || bytes.Equal(made, audit) {
		t.Errorf("the audit's key after a restore: got %d bytes, %v, the old one: %t; want a new one", len(made), err, bytes.Equal(made, audit))
	}
}

// A backup that is not whole, or not ours, changes nothing.
func TestRestoreRefuses(t *testing.T) {
	h := newTestHub(t, filepath.Join(t.TempDir(), "data"))
	h.add("a")
	good := h.backup(false)
	h.close()
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	pack := func(entries ...string) []byte {
		var b bytes.Buffer
		zw, err := zstd.NewWriter(&b)
		h.must(err)
		tw := tar.NewWriter(zw)
		for i := 0; i < len(entries); i += 2 {
			h.must(tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: entries[i], Size: int64(len(entries[i+1])), Mode: 0o600}))
			_, err := io.WriteString(tw, entries[i+1])
			h.must(err)
		}
		h.must(errors.Join(tw.Close(), zw.Close()))
		return b.Bytes()
	}
	newer, err := json.Marshal(manifest{Kind: backupKind, Format: 99, Version: "v9"})
	h.must(err)
	ours, err := json.Marshal(manifest{Kind: backupKind, Format: 1})
	h.must(err)
	for _, tt := range []struct {
		name   string
		backup []byte
		want   string
	}{
		{"nothing", nil, "no file that `devicehub backup` wrote"},
		{"a text", []byte("hello, this is not a backup at all"), "no file that `devicehub backup` wrote"},
		{"another archive", pack("letter.txt", "dear"), "no file that `devicehub backup` wrote"},
		{"half of it", good[:len(good)/2], "take another backup"},
		{"all but the end", good[:len(good)-3], "take another backup"},
		{"a flipped bit", flipped, "take another backup"},
		{"newer format", pack(backupManifest, string(newer)), "devicehub v9 made it in a newer format"},
		{"without checksums", pack(backupManifest, string(ours), registryFile, "x"), "its end is missing"},
		{"out of the folder", pack(backupManifest, string(ours), "readings/../../evil", "x"), "has no place"},
		{"absolute", pack(backupManifest, string(ours), "/etc/evil", "x"), "has no place"},
		{"another name", pack(backupManifest, string(ours), "lock", "x"), "has no place"},
		{"no registry", pack(backupManifest, string(ours), backupChecksums, `{}`), "holds 1 files of 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			present := newTestHub(t, path)
			tokens := present.add("present")
			present.close()
			dir := openDir(t, path)
			_, err := restoreFrom(t.Context(), &Process{Data: dir, Log: quiet()}, bytes.NewReader(tt.backup), false)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			dir.Close()
			after := &testHub{t: t, dir: openDir(t, path), self: h.self}
			after.open()
			if got := after.codes(tokens)["present"]; got != "" {
				t.Errorf("what was there is damaged: %q", got)
			}
			names, _ := filepath.Glob(filepath.Join(path, "*restore*"))
			hidden, _ := filepath.Glob(filepath.Join(path, ".*"))
			if len(names)+len(hidden) > 0 {
				t.Errorf("got %v %v left behind", names, hidden)
			}
		})
	}
}

// FuzzUnpack: no file makes unpack write outside its folder or panic.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("hello"))
	var b bytes.Buffer
	zw, _ := zstd.NewWriter(&b)
	tw := tar.NewWriter(zw)
	m := `{"kind":"devicehub backup","format":1}`
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: backupManifest, Size: int64(len(m))})
	_, _ = io.WriteString(tw, m)
	_ = tw.Close()
	_ = zw.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		outside := t.TempDir()
		dir := filepath.Join(outside, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, _ = unpack(t.Context(), bytes.NewReader(text), dir)
		if names, _ := os.ReadDir(outside); len(names) != 1 {
			t.Errorf("got %v outside of the folder", names)
		}
	})
}
