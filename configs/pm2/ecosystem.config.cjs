// pm2 start configs/pm2/ecosystem.config.cjs --only gradients-miner (or gradients-validator); pm2 save and pm2 startup keep it over a reboot.
// Settings are in the files that `gradients init` writes. GRADIENTS_HOME and GRADIENTS_BIN name other places.
const path = require("path");
const home = process.env.GRADIENTS_HOME || path.join(process.env.HOME, ".gradients");
const gradients = process.env.GRADIENTS_BIN || path.join(__dirname, "..", "..", ".venv", "bin", "gradients");

const daemon = (role) => ({
  name: `gradients-${role}`,
  script: gradients,
  args: [role, "run", "--config", path.join(home, role, "settings.toml"), "--log-style", "json"],
  interpreter: "none",
  cwd: home,
  // However often it ends, it is started again: chains and networks come back at night.
  autorestart: true,
  max_restarts: Number.MAX_SAFE_INTEGER,
  restart_delay: 1000,
  // SIGTERM goes to the daemon alone, which ends its workers; what is left after half a minute is killed.
  kill_signal: "SIGTERM",
  kill_timeout: 30000,
  treekill: false,
  // One file per daemon: pm2-logrotate keeps it small (docs/operators.md).
  merge_logs: true,
  combine_logs: true,
  out_file: path.join(home, role, "log.jsonl"),
  error_file: path.join(home, role, "log.jsonl"),
});

module.exports = { apps: [daemon("validator"), daemon("miner")] };
