package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// restoreFunc puts the contents of a backup into the data folder that p holds;
// no hub runs on it. revokeAll ends every token older than the restore. The
// facts that it returns are for the operator, one a line.
type restoreFunc func(ctx context.Context, p *Process, backup io.Reader, revokeAll bool) (facts []string, err error)

func (a *app) backupCommand() *cobra.Command {
	var withoutKeys, force bool
	cmd := a.command("backup FILE", "Write everything that the hub keeps into one file, or with - to stdout, while it runs", cobra.ExactArgs(1), false,
		func(ctx context.Context, c *api, args []string) error {
			file := args[0]
			if _, err := os.Lstat(file); file != "-" && err == nil && !force {
				return fmt.Errorf("%s exists; choose another name, or overwrite it with --force", file)
			}
			body := map[string]any{}
			if withoutKeys {
				body["without_keys"] = true
			}
			res, err := c.send(ctx, "POST", apiPath("backup"), nil, body)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			n, err := a.save(file, res.Body)
			if err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			holds := "it holds the signing keys and everything else: keep it as safe as the hub"
			if withoutKeys {
				holds = "it holds no keys: after a restore every device needs a new token; hashes of passwords, settings of devices, messages and readings are in it, unencrypted: keep it private"
			}
			fmt.Fprintf(a.err, "%s: %d bytes; %s\n", file, n, holds)
			return nil
		})
	cmd.Flags().BoolVar(&withoutKeys, "without-keys", false, "leave out the signing keys, the certificates' and the audit's")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}

// save writes what r holds to a file, or for - to stdout.
func (a *app) save(file string, r io.Reader) (int64, error) {
	if file == "-" {
		if _, yes := isTerminal(a.out); yes {
			return 0, usagef("stdout is a terminal; redirect it, or name a file")
		}
		return io.Copy(a.out, r)
	}
	return replaceFile(file, r)
}

// replaceFile makes path hold what r does, all of it or nothing, readable by
// its owner alone.
func replaceFile(path string, r io.Reader) (int64, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part") // mode 0600
	if err != nil {
		return 0, err
	}
	defer os.Remove(tmp.Name())
	n, err := io.Copy(tmp, r)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return 0, err
	}
	return n, os.Rename(tmp.Name(), path)
}

func (a *app) restoreCommand() *cobra.Command {
	var revokeAll bool
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup into the data folder; the hub must be stopped", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.localOnly("restore"); err != nil {
				return err
			}
			return a.runRestore(cmd, args[0], revokeAll)
		},
	}
	cmd.Flags().BoolVar(&revokeAll, "revoke-all", false, "end every token made before the restore")
	return cmd
}

func (a *app) runRestore(cmd *cobra.Command, file string, revokeAll bool) (err error) {
	loaded, err := LoadConfig(a.configFile, cmd.Flags())
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; give the file that `devicehub backup` wrote", err)
	} else if err != nil {
		return err
	}
	defer f.Close()
	dir, err := OpenDataDir(loaded.Config.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	var level slog.LevelVar
	log := newLogger(a.err, loaded.Config.Log, &level)
	level.Set(max(level.Level(), slog.LevelWarn))
	facts, err := a.restore(cmd.Context(), &Process{
		Config: loaded.Config, Data: dir, Log: log, Out: a.err, Version: versionString(),
	}, bufio.NewReader(f), revokeAll)
	for _, fact := range facts {
		fmt.Fprintln(a.err, fact)
	}
	return err
}

// follow copies a stream to stdout as it comes, until it ends or the operator
// interrupts.
func (a *app) follow(ctx context.Context, c *api, path string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	res, err := c.send(ctx, "GET", path, nil, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(a.out, res.Body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the stream broke off: %w; the hub may have stopped", err)
	}
	return nil
}
