package main

import "time"

// Config is everything that can be configured. Default gives the values that
// hold without a file; LoadConfig reads it. The names in the mapstructure tags
// are the keys of the YAML file ("http.listen"), of the environment
// (DEVICEHUB_HTTP_LISTEN) and of the flags (--http.listen). In the hub tag,
// "secret" keeps a value out of `config show` and off the command line, and
// "live" marks what a SIGHUP changes without a restart.
type Config struct {
	DataDir  string         `mapstructure:"data_dir"`
	HTTP     HTTPConfig     `mapstructure:"http"`
	MQTT     MQTTConfig     `mapstructure:"mqtt"`
	Registry RegistryConfig `mapstructure:"registry"`
	Audit    AuditConfig    `mapstructure:"audit" hub:"live"`
	Readings ReadingsConfig `mapstructure:"readings"`
	Auth     AuthConfig     `mapstructure:"auth"`
	Limits   LimitsConfig   `mapstructure:"limits" hub:"live"`
	Log      LogConfig      `mapstructure:"log"`
}

// HTTPConfig is the listener of the dashboard, the API and the sockets.
type HTTPConfig struct {
	Listen         string    `mapstructure:"listen"` // host:port
	TLS            TLSConfig `mapstructure:"tls"`
	PublicURL      string    `mapstructure:"public_url"`      // as browsers see the hub: scheme and host
	AllowedOrigins []string  `mapstructure:"allowed_origins"` // further origins that may open sockets
	TrustedProxies []string  `mapstructure:"trusted_proxies"` // addresses or prefixes whose X-Forwarded-For counts
	ProxyProtocol  bool      `mapstructure:"proxy_protocol"`  // TrustedProxies begin connections with a PROXY header
	DrainDelay     Duration  `mapstructure:"drain_delay"`     // from not ready to closed, when the hub stops
	InsecureLogin  string    `mapstructure:"insecure_login"`  // private or any
	Metrics        string    `mapstructure:"metrics"`         // token, open or off
}

// TLSConfig says where certificates come from, for HTTP and MQTT alike.
type TLSConfig struct {
	Mode        string   `mapstructure:"mode"` // off, files, self_signed or acme
	Cert        string   `mapstructure:"cert"` // PEM file, mode files
	Key         string   `mapstructure:"key"`  // PEM file, mode files
	ACMEDomains []string `mapstructure:"acme_domains"`
	ACMEEmail   string   `mapstructure:"acme_email"`
	// ACMEDirectory is the address of another authority than Let's Encrypt,
	// such as one of the house's own.
	ACMEDirectory string `mapstructure:"acme_directory"`
}

// The modes of TLSConfig.
const (
	TLSOff        = "off"
	TLSFiles      = "files"
	TLSSelfSigned = "self_signed"
	TLSACME       = "acme"
)

// MQTTConfig is the hub's own listener and the foreign brokers.
type MQTTConfig struct {
	Embedded MQTTListenConfig `mapstructure:"embedded"`
	Root     string           `mapstructure:"root"` // prefix of every native topic
	Bridges  []BridgeConfig   `mapstructure:"bridges"`
}

// MQTTListenConfig holds the addresses of the listener inside the hub; an
// empty one is off.
type MQTTListenConfig struct {
	Listen         string   `mapstructure:"listen"`
	TLSListen      string   `mapstructure:"tls_listen"`
	WSListen       string   `mapstructure:"ws_listen"`
	ProxyProtocol  bool     `mapstructure:"proxy_protocol"`  // as HTTPConfig's
	TrustedProxies []string `mapstructure:"trusted_proxies"` // addresses or prefixes that they come from
}

// BridgeConfig is one foreign broker. LoadConfig fills what is left out:
// ClientID, Root, Trust and Adapters.
type BridgeConfig struct {
	Name     string          `mapstructure:"name"`
	URL      string          `mapstructure:"url"`
	Username string          `mapstructure:"username"`
	Password string          `mapstructure:"password" hub:"secret"`
	ClientID string          `mapstructure:"client_id"`
	CA       string          `mapstructure:"ca"`   // PEM file
	Cert     string          `mapstructure:"cert"` // PEM file
	Key      string          `mapstructure:"key"`  // PEM file
	Root     string          `mapstructure:"root"`
	Trust    string          `mapstructure:"trust"` // token or topic
	Adapters []AdapterConfig `mapstructure:"adapters"`
}

// AdapterConfig is one dialect spoken on a bridge; Base is its topic prefix
// there, "" being the dialect's own default.
type AdapterConfig struct {
	Kind string `mapstructure:"kind"` // native, ha_out, z2m or tasmota
	Base string `mapstructure:"base"`
}

// RegistryConfig says where records, users, commands and the audit live.
type RegistryConfig struct {
	URL string `mapstructure:"url"`
}

// AuditConfig is what the audit may grow to.
type AuditConfig struct {
	MaxAge   Duration `mapstructure:"max_age"`   // 0: no end
	MaxBytes Size     `mapstructure:"max_bytes"` // about, with what finds the entries
}

// ReadingsConfig is how readings are kept.
type ReadingsConfig struct {
	Retention     RetentionConfig `mapstructure:"retention"`
	Fsync         string          `mapstructure:"fsync"` // batch, interval or off
	LateMax       Duration        `mapstructure:"late_max"`
	BackfillShare int             `mapstructure:"backfill_share"` // percent of a commit, at least
	MinFree       Size            `mapstructure:"min_free"`       // disk that readings leave free; AutoSize: the lesser of 1 GiB and 5 %
	Influx        InfluxConfig    `mapstructure:"influx"`
}

// RetentionConfig is how long each tier of readings is kept.
type RetentionConfig struct {
	Raw   Duration `mapstructure:"raw"`
	Min15 Duration `mapstructure:"15m"`
	Hour1 Duration `mapstructure:"1h"`
}

// InfluxConfig is the InfluxDB sink; it is off while URL is empty.
type InfluxConfig struct {
	URL      string `mapstructure:"url"`
	Org      string `mapstructure:"org"`
	Bucket   string `mapstructure:"bucket"`
	Token    string `mapstructure:"token" hub:"secret"`
	SpoolMax Size   `mapstructure:"spool_max"` // AutoSize: the lesser of 10 GiB and a fifth of the free disk
}

// AuthConfig is how devices and people are let in.
type AuthConfig struct {
	Issuer               string   `mapstructure:"issuer"`
	TokenTTL             Duration `mapstructure:"token_ttl"` // of device tokens; 0: they do not expire
	AllowQueryToken      bool     `mapstructure:"allow_query_token"`
	InitialAdminPassword string   `mapstructure:"initial_admin_password" hub:"secret"`
}

// LimitsConfig bounds what one client may ask of the hub.
type LimitsConfig struct {
	FrameBytes                   int      `mapstructure:"frame_bytes"`
	ReadingsPerPush              int      `mapstructure:"readings_per_push"`
	PushesInFlight               int      `mapstructure:"pushes_in_flight"`
	ChannelsPerConnection        int      `mapstructure:"channels_per_connection"`
	Inbox                        int      `mapstructure:"inbox"` // messages a channel
	OutboundBytes                int      `mapstructure:"outbound_bytes"`
	OutboundAge                  Duration `mapstructure:"outbound_age"`
	InboundBytesPerPrincipal     Size     `mapstructure:"inbound_bytes_per_principal"` // of messages that wait to be handled
	OutboundBytesPerPrincipal    Size     `mapstructure:"outbound_bytes_per_principal"`
	DeviceEventsPerS             int      `mapstructure:"device_events_per_s"`
	DeviceBurst                  int      `mapstructure:"device_burst"`
	BridgeEventsPerS             int      `mapstructure:"bridge_events_per_s"`  // of all devices behind it; more wait
	DeviceBytesPerMin            Size     `mapstructure:"device_bytes_per_min"` // that are stored
	DeviceBytesPerDay            Size     `mapstructure:"device_bytes_per_day"` // likewise
	DeviceLongpolls              int      `mapstructure:"device_longpolls"`     // sessions
	EventsPerS                   int      `mapstructure:"events_per_s"`         // of a person or an account
	EventBurst                   int      `mapstructure:"event_burst"`
	ReadsPerS                    int      `mapstructure:"reads_per_s"`
	ReadBurst                    int      `mapstructure:"read_burst"`
	CallsPerS                    int      `mapstructure:"calls_per_s"` // over HTTP
	CallBurst                    int      `mapstructure:"call_burst"`
	CallsAtOnce                  int      `mapstructure:"calls_at_once"`
	Sockets                      int      `mapstructure:"sockets"`
	Longpolls                    int      `mapstructure:"longpolls"` // sessions
	ConnectsPerS                 int      `mapstructure:"connects_per_s"`
	ConnectBurst                 int      `mapstructure:"connect_burst"`
	Unverified                   int      `mapstructure:"unverified"` // connections that have yet to sign in
	UnverifiedPerAddress         int      `mapstructure:"unverified_per_address"`
	ConnectsPerSPerAddress       int      `mapstructure:"connects_per_s_per_address"`
	FailedConnectsPerSPerAddress int      `mapstructure:"failed_connects_per_s_per_address"`
	FailedLoginsPerMinPerAddress int      `mapstructure:"failed_logins_per_min_per_address"`
	FailedLoginsPerMinPerName    int      `mapstructure:"failed_logins_per_min_per_name"`
	MQTTMessagesPerS             int      `mapstructure:"mqtt_messages_per_s"` // that an account publishes
	MQTTMessageBurst             int      `mapstructure:"mqtt_message_burst"`
	MQTTKeptBytesPerMin          Size     `mapstructure:"mqtt_kept_bytes_per_min"` // of an account, that are written
	MQTTBytes                    Size     `mapstructure:"mqtt_bytes"`              // that the broker keeps for service accounts
	MQTTBytesPerAccount          Size     `mapstructure:"mqtt_bytes_per_account"`
	MQTTSessionsPerAccount       int      `mapstructure:"mqtt_sessions_per_account"`
	MQTTRetainedPerAccount       int      `mapstructure:"mqtt_retained_per_account"` // messages
}

// LogConfig is the log on stderr.
type LogConfig struct {
	Level  string `mapstructure:"level" hub:"live"` // debug, info, warn or error
	Format string `mapstructure:"format"`           // text or json
}

// Default is the configuration of a hub that was told nothing.
func Default() Config {
	return Config{
		DataDir: "./data",
		HTTP: HTTPConfig{
			Listen:        ":4000",
			TLS:           TLSConfig{Mode: TLSOff},
			InsecureLogin: "private",
			Metrics:       "token",
		},
		MQTT: MQTTConfig{
			Embedded: MQTTListenConfig{Listen: ":1883"},
			Root:     "hub/v1",
		},
		Registry: RegistryConfig{URL: "sqlite"},
		Audit:    AuditConfig{MaxAge: 2 * Year, MaxBytes: 256 << 20},
		Readings: ReadingsConfig{
			Retention:     RetentionConfig{Raw: 30 * Day, Min15: 180 * Day, Hour1: 2 * Year},
			Fsync:         "batch",
			LateMax:       7 * Day,
			BackfillShare: 25,
			MinFree:       AutoSize,
			Influx:        InfluxConfig{SpoolMax: AutoSize},
		},
		Auth: AuthConfig{
			Issuer:          "devicehub",
			TokenTTL:        Duration(8760 * time.Hour),
			AllowQueryToken: true,
		},
		Limits: LimitsConfig{
			FrameBytes:                   65536,
			ReadingsPerPush:              500,
			PushesInFlight:               8,
			ChannelsPerConnection:        100,
			Inbox:                        64,
			OutboundBytes:                262144,
			OutboundAge:                  Duration(10 * time.Second),
			InboundBytesPerPrincipal:     1 << 20,
			OutboundBytesPerPrincipal:    4 << 20,
			DeviceEventsPerS:             50,
			DeviceBurst:                  200,
			BridgeEventsPerS:             25_000,
			DeviceBytesPerMin:            5_000_000,
			DeviceBytesPerDay:            200_000_000,
			DeviceLongpolls:              2,
			EventsPerS:                   20,
			EventBurst:                   100,
			ReadsPerS:                    100,
			ReadBurst:                    400,
			CallsPerS:                    100,
			CallBurst:                    400,
			CallsAtOnce:                  256,
			Sockets:                      32,
			Longpolls:                    8,
			ConnectsPerS:                 5,
			ConnectBurst:                 200,
			Unverified:                   16_384,
			UnverifiedPerAddress:         256,
			ConnectsPerSPerAddress:       1000,
			FailedConnectsPerSPerAddress: 20,
			FailedLoginsPerMinPerAddress: 30,
			FailedLoginsPerMinPerName:    10,
			MQTTMessagesPerS:             1000,
			MQTTMessageBurst:             5000,
			MQTTKeptBytesPerMin:          8_000_000,
			MQTTBytes:                    256 << 20,
			MQTTBytesPerAccount:          48 << 20,
			MQTTSessionsPerAccount:       100,
			MQTTRetainedPerAccount:       50_000,
		},
		Log: LogConfig{Level: "info", Format: "text"},
	}
}
