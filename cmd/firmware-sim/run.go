package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

type runFlags struct {
	hub, mqtt, username, token, report string
	state, resume                      string
	startHub, metrics, worker          string
	bridge, startBroker                string
	workers                            int
	sources                            []string
	passwordStdin                      bool
	duration, settle                   time.Duration
	scale                              float64
	json, dryRun, keep, noJudge, debug bool
	seed                               uint64
}

func newRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run PROFILE.yaml",
		Short: "Play a fleet and judge the hub",
		Long: "Registers the devices of a profile, plays them, reads back what the hub has stored, and removes them.\n" +
			"Ctrl-C ends the play early, and the verdict follows; a second one stops at once.\n" +
			"Exit code: 0 every assertion holds, 1 one does not or could not be checked, 2 wrong usage, 3 the generator was the bottleneck.\n\n" +
			"With --state DIR a run survives its own process: after a kill or a reboot, --resume DIR in place of the profile takes it\n" +
			"up with the same devices, plays what is left, and judges the whole. Say again where the hub is and who you are.",
		Example: "  firmware-sim run soak.yaml --username admin --password-stdin --state soak\n" +
			"  firmware-sim run --resume soak --username admin --password-stdin",
		Args: f.args,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, append(args, "")[0]) },
	}
	fs := c.Flags()
	fs.StringVar(&f.hub, "hub", "http://127.0.0.1:4000", "the hub's URL")
	fs.StringVar(&f.mqtt, "mqtt", "", "the MQTT listener's URL (default mqtt://<hub's host>:1883)")
	fs.StringVar(&f.username, "username", "", "an administrator's name")
	fs.BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from standard input")
	fs.StringVar(&f.token, "token", "", "an administrator's token instead (or FIRMWARE_SIM_TOKEN)")
	fs.DurationVar(&f.duration, "duration", 0, "how long to play (default: the profile's hold, else until stopped)")
	fs.DurationVar(&f.settle, "settle", 30*time.Second, "how long devices may take at the end to get the rest acknowledged")
	fs.Float64Var(&f.scale, "scale", 1, "multiply counts and rates")
	fs.Uint64Var(&f.seed, "seed", 0, "instead of the profile's seed")
	fs.StringVar(&f.report, "report", "", "write report.json and report.html into this folder")
	fs.StringVar(&f.state, "state", "", "keep in this folder what it takes to resume the run")
	fs.StringVar(&f.resume, "resume", "", "take up the run in this folder, whose process was killed")
	fs.StringVar(&f.startHub, "start-hub", "", "a command line that starts the hub, for faults that kill it; its output goes to standard error with --debug")
	fs.StringVar(&f.bridge, "bridge", "", "the broker's URL for devices that the profile puts behind a bridge (via)")
	fs.StringVar(&f.startBroker, "start-broker", "", "a command line that starts that broker, for faults that kill it")
	fs.IntVar(&f.workers, "workers", 1, "play the fleet in so many processes, with one report")
	fs.StringSliceVar(&f.sources, "sources", nil, "local addresses to connect from, in turn (default: as many of 127.0.0.0/8 as the fleet needs, for a hub there)")
	fs.StringVar(&f.worker, "worker", "", "for the program's own use")
	_ = fs.MarkHidden("worker") // the flag stands one line above
	fs.StringVar(&f.metrics, "metrics", "", "serve Prometheus metrics of the simulator on this address")
	fs.BoolVar(&f.json, "json", false, "print the report as JSON on standard output")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the plan and stop")
	fs.BoolVar(&f.keep, "keep-devices", false, "leave the devices on the hub")
	fs.BoolVar(&f.noJudge, "no-judge", false, "do not read back what the hub has stored")
	fs.BoolVar(&f.debug, "debug", false, "log every connect and disconnect to standard error")
	return c
}

// args are a profile, or none for a run that is resumed with its own.
func (f *runFlags) args(cmd *cobra.Command, args []string) error {
	if f.resume == "" {
		return cobra.ExactArgs(1)(cmd, args)
	}
	if len(args) > 0 {
		return errors.New("--resume has the profile of its run; leave out " + args[0])
	}
	for _, own := range []string{"seed", "scale", "duration", "settle", "keep-devices", "state", "workers", "dry-run"} {
		if cmd.Flags().Changed(own) {
			return fmt.Errorf("--%s is as the run began; it does not go with --resume", own)
		}
	}
	return nil
}

func (f *runFlags) run(cmd *cobra.Command, path string) error {
	if f.resume != "" {
		return f.play(cmd, "", &profile.Profile{})
	}
	p, err := profile.Read(path)
	if err != nil {
		return usageError{err}
	}
	if err := f.check(p); err != nil {
		return usageError{err}
	}
	if f.seed != 0 {
		p.Seed = f.seed
	}
	if f.dryRun {
		sim.WritePlan(cmd.OutOrStdout(), p, f.scale, f.duration)
		return nil
	}
	if f.worker != "" {
		return f.asWorker(cmd, p)
	}
	return f.play(cmd, path, p)
}

// check reports what cannot be meant, as far as the command line alone says.
func (f *runFlags) check(p *profile.Profile) error {
	devices := p.Devices(f.scale)
	switch {
	case f.scale <= 0:
		return errors.New("--scale must be above 0")
	case f.duration < 0:
		return errors.New("--duration must not be below 0")
	case f.settle < 0:
		return errors.New("--settle must not be below 0")
	case f.workers < 1 || f.workers > devices:
		return fmt.Errorf("--workers must be from 1 to the %d devices of the fleet", devices)
	case f.state != "" && f.workers > 1:
		return errors.New("--state does not go with --workers")
	}
	return nil
}

// writable makes a folder and reports whether one can write into it, before a run whose report would be lost.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".report-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// play is a run in this process, or led by it.
func (f *runFlags) play(cmd *cobra.Command, path string, p *profile.Profile) error {
	cfg, err := f.config(cmd, p)
	if err != nil {
		return usageError{err}
	}
	if f.report != "" {
		if err := writable(f.report); err != nil {
			return usageError{fmt.Errorf("--report: %w", err)}
		}
	}
	show := newProgress(cmd.Context(), cmd.ErrOrStderr())
	defer show.close()
	cfg.Progress, cfg.Log = show.update, f.log(show)
	output := io.Discard
	if f.debug {
		output = show
	}
	if f.startBroker != "" {
		if cfg.Bridge == nil {
			return usageError{errors.New("--start-broker needs --bridge, where it listens")}
		}
		broker, err := sim.NewBroker(cfg.Bridge, strings.Fields(f.startBroker), output)
		if err != nil {
			return usageError{err}
		}
		if err := broker.Start(cmd.Context()); err != nil {
			return err
		}
		defer broker.Stop()
		cfg.Broker = broker
	}
	if f.startHub != "" {
		hub, err := sim.NewProcess(cfg.Hub, strings.Fields(f.startHub), nil, output)
		if err != nil {
			return usageError{err}
		}
		if err := hub.Start(cmd.Context()); err != nil {
			return err
		}
		defer hub.Stop()
		cfg.Server = hub
	}
	if f.workers > 1 {
		report, err := f.inWorkers(cmd, path, p, cfg, show)
		show.close()
		if err != nil {
			return err
		}
		return f.present(cmd, report)
	}
	if err := f.openJournal(&cfg, path); err != nil {
		return usageError{err}
	}
	s, err := sim.New(cfg)
	if err != nil {
		return usageError{errors.Join(err, cfg.Journal.Abandon())}
	}
	if f.metrics != "" {
		stop, err := serveMetrics(cmd.Context(), f.metrics, s.Live)
		if err != nil {
			return err
		}
		defer stop()
	}
	report, err := s.Run(cmd.Context())
	show.close()
	if err != nil {
		return errors.Join(err, cfg.Journal.Abandon())
	}
	if err := cfg.Journal.Close(); err != nil {
		return err
	}
	return f.present(cmd, report)
}

// openJournal begins the journal of a run that is to be kept, or goes on with one.
func (f *runFlags) openJournal(cfg *sim.Config, path string) (err error) {
	switch {
	case f.resume != "":
		cfg.Journal, err = sim.OpenJournal(f.resume, cfg)
	case f.state != "":
		var yaml []byte
		if yaml, err = os.ReadFile(path); err == nil {
			cfg.Journal, err = sim.CreateJournal(f.state, cfg, yaml)
		}
	}
	return err
}

// present writes the report wherever it was asked for; the error is the verdict's exit code.
func (f *runFlags) present(cmd *cobra.Command, report *sim.Report) error {
	if f.report != "" {
		if err := report.WriteDir(f.report); err != nil {
			return err
		}
	}
	if f.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		report.WriteTable(cmd.OutOrStdout())
	}
	if code := report.ExitCode(); code != 0 {
		return exitCode(code)
	}
	return nil
}

// config is the whole configuration; base leaves out the sign-in.
func (f *runFlags) config(cmd *cobra.Command, p *profile.Profile) (sim.Config, error) {
	cfg, err := f.base(p)
	if err != nil {
		return cfg, err
	}
	if cfg.Token == "" {
		cfg.Token = os.Getenv("FIRMWARE_SIM_TOKEN")
	}
	if cfg.Password, err = password(cmd.InOrStdin(), f.username, f.passwordStdin); err != nil {
		return cfg, err
	}
	if cfg.Username == "" && cfg.Token == "" {
		return cfg, errors.New("say who you are: --username NAME --password-stdin, or --token")
	}
	return cfg, nil
}

func (f *runFlags) base(p *profile.Profile) (sim.Config, error) {
	cfg := sim.Config{Profile: p, Username: f.username, Token: f.token, Duration: f.duration, Settle: f.settle, Scale: f.scale,
		Keep: f.keep, NoJudge: f.noJudge}
	var err error
	if cfg.Hub, err = parseURL("--hub", f.hub, "http", "https"); err != nil {
		return cfg, err
	}
	if f.mqtt != "" {
		if cfg.MQTT, err = parseURL("--mqtt", f.mqtt, "mqtt", "mqtts", "tcp", "ssl"); err != nil {
			return cfg, err
		}
	}
	if f.bridge != "" {
		if cfg.Bridge, err = parseURL("--bridge", f.bridge, "mqtt", "mqtts", "tcp", "ssl"); err != nil {
			return cfg, err
		}
	}
	for _, text := range f.sources {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return cfg, fmt.Errorf("--sources: %q is not an IP address", text)
		}
		if ln, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String()); err != nil {
			return cfg, fmt.Errorf("--sources: %s is not an address of this machine", a)
		} else {
			ln.Close()
		}
		cfg.Sources = append(cfg.Sources, a)
	}
	return cfg, nil
}

func (f *runFlags) log(w io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if f.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func parseURL(flag, s string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%s: %q is not a URL such as %s://127.0.0.1", flag, s, schemes[0])
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			u.Path = strings.TrimSuffix(u.Path, "/")
			return u, nil
		}
	}
	return nil, fmt.Errorf("%s: %q is not one of the schemes %s", flag, u.Scheme, strings.Join(schemes, ", "))
}

// password reads one line of standard input, or FIRMWARE_SIM_PASSWORD.
func password(in io.Reader, username string, fromStdin bool) (string, error) {
	if username == "" {
		return "", nil
	}
	if !fromStdin {
		if p := os.Getenv("FIRMWARE_SIM_PASSWORD"); p != "" {
			return p, nil
		}
		return "", errors.New("--username needs --password-stdin, or FIRMWARE_SIM_PASSWORD in the environment")
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		if err != nil && err != io.EOF {
			return "", err
		}
		return "", errors.New("no password on standard input")
	}
	return line, nil
}

// mqttURL is where a hub listens for MQTT unless it is told otherwise.
func mqttURL(hub *url.URL) *url.URL {
	return &url.URL{Scheme: "mqtt", Host: net.JoinHostPort(hub.Hostname(), "1883")}
}
