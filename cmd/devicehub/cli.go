package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"devicehub/devices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	serve    serveFunc
	open     openFunc
	restore  restoreFunc

	configFile, url, tokenFile string
}

// usageError is a command that was put wrongly: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run does what args ask for and returns the exit code. Whatever goes wrong is
// one line on stderr.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	line := strings.Join(strings.Fields(err.Error()), " ")
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.err, "devicehub: %s; see `%s --help`\n", line, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(a.err, "devicehub: %s\n", line)
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "devicehub",
		Short: "A hub for sensors and lights",
		Long: `devicehub connects sensors and lights to the people who watch and control them.

"devicehub serve" runs the hub. The other commands ask the hub that holds the data
folder; where none runs they open the folder themselves; with --url and a token
(--token-file, ` + tokenEnv + `) they ask a hub elsewhere.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          groupRun,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	pf := root.PersistentFlags()
	pf.StringVar(&a.configFile, "config", "", "configuration `file` (default ./"+defaultConfigFile+", if there is one)")
	pf.StringVar(&a.url, "url", "", "`address` of a hub elsewhere (https://hub.example.org)")
	pf.StringVar(&a.tokenFile, "token-file", "", "`file` with the token for --url (default: the variable "+tokenEnv+")")
	for _, k := range configKeys() {
		if k.Path == "data_dir" {
			d := Default()
			pf.Var(&keyFlag{key: k, text: d.DataDir}, k.Flag(), "data `folder` of the hub")
		}
	}
	root.AddCommand(
		a.serveCommand(),
		a.deviceCommand(), a.tokenCommand(),
		a.userCommand(), a.apiTokenCommand(), a.keyCommand(),
		a.clockCommand(), a.traceCommand(), a.readingsCommand(), a.sinkCommand(), a.sessionCommand(), a.auditCommand(),
		a.backupCommand(), a.restoreCommand(),
		a.configCommand(), a.versionCommand(), a.licensesCommand(),
	)
	wrapArgs(root)
	// A key may be typed as it stands in the file: --http.public_url.
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	return root
}

// wrapArgs makes wrong arguments of any command a usage error.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{argumentError(cmd, args, err)}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		wrapArgs(c)
	}
}

// argumentError says in the command's own words which arguments it takes, where
// the library counts them.
func argumentError(cmd *cobra.Command, args []string, err error) error {
	text := err.Error()
	if !strings.HasPrefix(text, "accepts ") && !strings.HasPrefix(text, "requires ") && !strings.HasPrefix(text, "unknown command ") {
		return err
	}
	var names []string
	for _, word := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(word, "-") {
			break
		}
		names = append(names, word)
	}
	command := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
	wants, given := strings.Join(names, " "), "nothing"
	if len(args) > 0 {
		given = strings.Join(args, " ")
	}
	if wants == "" {
		return fmt.Errorf("%s takes no arguments; it was given %s", command, given)
	}
	return fmt.Errorf("%s takes %s; it was given %s", command, wants, given)
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: groupRun}
	cmd.AddCommand(commands...)
	return cmd
}

// groupRun tells someone who left out or mistyped the command what there is.
func groupRun(cmd *cobra.Command, args []string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	known := strings.Join(names, ", ")
	if len(args) == 0 {
		return usagef("%s needs a command: %s", cmd.CommandPath(), known)
	}
	if n := nearest(args[0], names); n != "" {
		return usagef("unknown command %q, did you mean %s?", args[0], n)
	}
	return usagef("unknown command %q; known are %s", args[0], known)
}

// command is one that asks the hub. create says that it may begin a data
// folder.
func (a *app) command(use, short string, args cobra.PositionalArgs, create bool, run func(ctx context.Context, c *api, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd, create)
			if err != nil {
				return err
			}
			return errors.Join(run(cmd.Context(), c, args), c.close())
		},
	}
}

// localOnly refuses --url for commands that act on this machine.
func (a *app) localOnly(command string) error {
	if a.url != "" || a.tokenFile != "" {
		return usagef("%s acts on this machine; leave out --url and --token-file", command)
	}
	return nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, versionLine())
			return err
		},
	}
}

func (a *app) configCommand() *cobra.Command {
	var asJSON bool
	check := &cobra.Command{
		Use: "check", Short: "Look the configuration over", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.localOnly("config check"); err != nil {
				return err
			}
			loaded, err := LoadConfig(a.configFile, cmd.Flags())
			var ps Problems
			if err == nil {
				ps = loaded.Config.CheckFiles()
			} else if !errors.As(err, &ps) {
				return err
			}
			for _, p := range ps[min(1, len(ps)):] { // the first is the command's own error
				fmt.Fprintln(a.err, "devicehub:", p)
			}
			if len(ps) > 0 {
				return ps[:1]
			}
			for _, w := range loaded.Warnings {
				fmt.Fprintln(a.err, "warning:", w)
			}
			from := loaded.File
			if from == "" {
				from = "no file, defaults"
			}
			_, err = fmt.Fprintf(a.out, "configuration is good (%s)\n", from)
			return err
		},
	}
	show := &cobra.Command{
		Use: "show", Short: "Print what holds in the end, secrets redacted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.localOnly("config show"); err != nil {
				return err
			}
			loaded, err := LoadConfig(a.configFile, cmd.Flags())
			if err != nil {
				return err
			}
			for _, w := range loaded.Warnings {
				fmt.Fprintln(a.err, "warning:", w)
			}
			if asJSON {
				return loaded.showJSON(a.out)
			}
			return loaded.showYAML(a.out)
		},
	}
	show.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addConfigFlags(check.Flags(), nil)
	addConfigFlags(show.Flags(), nil)
	return group("config", "The effective configuration", check, show)
}

func (a *app) clockCommand() *cobra.Command {
	return group("clock", "The hub's own clock", a.command("accept", "Take the machine's clock as right, after it was found to be suspect", cobra.NoArgs, false,
		func(ctx context.Context, c *api, _ []string) error {
			if err := c.call(ctx, "POST", apiPath("clock", "accept"), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintln(a.err, "the clock is accepted")
			return nil
		}))
}

// printJSON writes an answer for programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printRaw writes a JSON answer indented, its fields in the hub's order.
func (a *app) printRaw(raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := a.out.Write(b.Bytes())
	return err
}

// table writes rows in columns for people, the first row being the heading.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, s := range r {
			cells[i] = cell(s)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return w.Flush()
}

// cell is s without what would break a line or steer a terminal.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}

// when is ms since epoch for people, in the zone of this machine, which it names.
func when(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).Local().Format("2006-01-02 15:04:05 MST")
}

// oneDevice wants one device id as the only argument.
func oneDevice(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	return someDevices(cmd, args)
}

// someDevices wants device ids as arguments, at least one.
func someDevices(cmd *cobra.Command, args []string) error {
	if err := cobra.MinimumNArgs(1)(cmd, args); err != nil {
		return err
	}
	for _, s := range args {
		if _, err := devices.ParseID(s); err != nil {
			return fmt.Errorf("%q is no device id: 1 to 63 characters a-z, 0-9 and '-', a letter or digit first and last", s)
		}
	}
	return nil
}

// seconds reads a duration flag as whole seconds, 0 when it was not given.
func seconds(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	d, err := ParseDuration(s)
	if err != nil {
		return 0, usagef("--%s: %v", flag, err)
	}
	n := int64(d.Duration() / time.Second)
	if n == 0 && d != 0 {
		return 0, usagef("--%s: must be at least a second", flag)
	}
	return n, nil
}

// scopeArg checks a scope before it is sent.
func scopeArg(s string) error {
	if _, err := devices.ParseScope(s); err != nil {
		return usagef("--scope: %v", err)
	}
	return nil
}

// isTerminal reports whether f is one that people sit at.
func isTerminal(f any) (*os.File, bool) {
	file, ok := f.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}
