package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (a *app) userCommand() *cobra.Command {
	return group("user", "People who may sign in", a.userAdd(), a.userList(), a.userPassword(),
		a.command("rm NAME...", "Delete people; their sessions end at once", cobra.MinimumNArgs(1), false,
			func(ctx context.Context, c *api, args []string) error {
				for _, name := range args {
					if err := c.call(ctx, "DELETE", apiPath("users", name), nil, nil, nil); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
					fmt.Fprintf(a.err, "user %s is deleted\n", name)
				}
				return nil
			}))
}

func (a *app) userAdd() *cobra.Command {
	var (
		role, scope string
		fromStdin   bool
	)
	cmd := a.command("add NAME --role ROLE", "Add a person; asks for the password", cobra.ExactArgs(1), true,
		func(ctx context.Context, c *api, args []string) error {
			password, err := a.password(fromStdin)
			if err != nil {
				return err
			}
			body := map[string]any{"username": args[0], "password": password, "role": role}
			if scope != "" {
				body["scope"] = scope
			}
			if err := c.call(ctx, "POST", apiPath("users"), nil, body, nil); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "user %s is added as %s\n", args[0], role)
			return nil
		})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"admin", "operator", "viewer"}, role) {
			return usagef("--role must be admin, operator or viewer")
		}
		if err := a.passwordComes(fromStdin); err != nil {
			return err
		}
		return scopeArg(scope)
	}
	cmd.Flags().StringVar(&role, "role", "", "admin, operator or viewer")
	cmd.Flags().StringVar(&scope, "scope", "", "devices it is about, such as area=kitchen (default: every device)")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input, one line")
	return cmd
}

func (a *app) userPassword() *cobra.Command {
	var fromStdin bool
	cmd := a.command("passwd NAME", "Set a person's password; ends their sessions", cobra.ExactArgs(1), false,
		func(ctx context.Context, c *api, args []string) error {
			password, err := a.password(fromStdin)
			if err != nil {
				return err
			}
			if err := c.call(ctx, "PATCH", apiPath("users", args[0]), nil, map[string]any{"password": password}, nil); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "the password of %s is changed\n", args[0])
			return nil
		})
	cmd.PreRunE = func(*cobra.Command, []string) error { return a.passwordComes(fromStdin) }
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input, one line")
	return cmd
}

func (a *app) userList() *cobra.Command {
	return a.listCommand("users", "users", []string{"NAME", "ROLE", "SCOPE", "SINCE"}, func(raw json.RawMessage) ([]string, error) {
		var u struct {
			Name      string `json:"name"`
			Role      string `json:"role"`
			Scope     string `json:"scope"`
			CreatedAt int64  `json:"created_at"`
		}
		err := json.Unmarshal(raw, &u)
		return []string{u.Name, u.Role, scopeText(u.Scope), when(u.CreatedAt)}, err
	})
}

func scopeText(s string) string {
	if s == "" {
		return "every device"
	}
	return s
}

// listCommand lists what /api/v1/<noun> holds, under field in the answer.
func (a *app) listCommand(noun, field string, heading []string, row func(json.RawMessage) ([]string, error)) *cobra.Command {
	var asJSON bool
	cmd := a.command("list", "List them", cobra.NoArgs, false, func(ctx context.Context, c *api, _ []string) error {
		all, _, err := pages(ctx, c, field, apiPath(strings.Split(noun, "/")...), nil, 0)
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(map[string]any{field: all})
		}
		rows := [][]string{heading}
		for _, raw := range all {
			r, err := row(raw)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return a.table(rows)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// passwordComes refuses to wait for a password that nobody will type.
func (a *app) passwordComes(fromStdin bool) error {
	if _, typed := isTerminal(a.in); fromStdin || typed {
		return nil
	}
	return usagef("there is no terminal to ask for the password; give it with --password-stdin")
}

// password reads a password from standard input, or asks for it twice.
func (a *app) password(fromStdin bool) (string, error) {
	if fromStdin {
		line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("standard input: %w", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", usagef("standard input holds no password")
		}
		return line, nil
	}
	f, ok := isTerminal(a.in)
	if !ok {
		return "", usagef("there is no terminal to ask for the password; give it with --password-stdin")
	}
	var twice [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(a.err, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.err)
		if err != nil {
			return "", fmt.Errorf("password: %w; give it with --password-stdin", err)
		}
		twice[i] = string(b)
	}
	if twice[0] != twice[1] {
		return "", errors.New("the two passwords differ; try again")
	}
	return twice[0], nil
}
