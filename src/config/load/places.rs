//! Where files are when no setting says so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::url::{BrokerUrl, checksum};

/// As the environment has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Places {
    /// The embedded broker's file; `None` if the environment names no directory for it.
    pub broker_file: Option<PathBuf>,
    /// Where sockets go that have no file to be next to: beside the embedded broker's, if there is no better place.
    pub runtime_directory: Option<PathBuf>,
    /// What outlives a boot; `None` if the environment names no directory for it.
    state_directory: Option<PathBuf>,
}

/// The configuration file of a project, in its directory.
pub(in crate::config) const PROJECT_FILE: &str = "pool.toml";
/// Where the files of services are: `pool.toml` of the only one, `NAME.toml` of one of several. As in `deploy/systemd/`.
pub(in crate::config) const SERVICE_DIRECTORY: &str = "/etc/pool";
/// What `StateDirectory=pool` and `RuntimeDirectory=pool` of the units are. Source: systemd.exec(5).
const SERVICE_STATE: &str = "/var/lib/pool";
const SERVICE_RUNTIME: &str = "/run/pool";

impl Places {
    /// The file is `pool.db` in the state directory: `$STATE_DIRECTORY` (systemd sets it); that of the service whose
    /// configuration `file` is; that of the project whose `pool.toml` it is, below the XDG state home; else the XDG
    /// state home's `pool/` itself.
    pub fn of(env: &impl Fn(&str) -> Option<OsString>, file: Option<&Path>) -> Self {
        let service = file.and_then(service);
        let of_service = |place: &str| Some(Path::new(place).join(service.as_ref()?));
        let state_home = || {
            directory(env, "XDG_STATE_HOME")
                .or_else(|| directory(env, "HOME").map(|home| home.join(".local/state")))
                .map(|home| home.join("pool").join(file.and_then(project).unwrap_or_default()))
        };
        let state = directory(env, "STATE_DIRECTORY")
            .or_else(|| of_service(SERVICE_STATE))
            .or_else(state_home);
        Places {
            broker_file: state.as_ref().map(|d| d.join("pool.db")),
            runtime_directory: directory(env, "RUNTIME_DIRECTORY")
                .or_else(|| of_service(SERVICE_RUNTIME))
                .or_else(|| directory(env, "XDG_RUNTIME_DIR"))
                .or_else(|| state.clone()),
            state_directory: state,
        }
    }

    /// The control socket: the embedded broker's file with `.sock` added, so that two files in one
    /// directory have two sockets; without a file, in the runtime directory, a name that tells the broker, so that two
    /// brokers have two sockets.
    pub fn socket(&self, broker: &BrokerUrl) -> Option<PathBuf> {
        let name = match broker {
            BrokerUrl::Sqlite(file) => {
                let mut path = file.clone().into_os_string();
                path.push(".sock");
                return Some(path.into());
            }
            BrokerUrl::Memory => "pool.sock".to_owned(),
            BrokerUrl::Redis(_) | BrokerUrl::Kombu(_) | BrokerUrl::App(_) => {
                format!("pool-{}.sock", broker.label())
            }
        };
        self.runtime_directory
            .as_ref()
            .map(|directory| directory.join(name))
    }

    /// The history of decisions: beside the control socket, with `.history` added. A runtime directory is emptied at a
    /// boot, so the history of a socket there is in the state directory.
    pub fn history(&self, socket: &Path) -> PathBuf {
        let mut name = socket.file_name().unwrap_or_default().to_owned();
        name.push(".history");
        match (&self.runtime_directory, &self.state_directory) {
            (Some(runtime), Some(state)) if socket.parent() == Some(runtime) => state.join(name),
            _ => socket.with_file_name(name),
        }
    }
}

/// The part of a service's directories that its file names: nothing for the only service, `mail` for `mail.toml`.
fn service(file: &Path) -> Option<PathBuf> {
    if file.parent()? != Path::new(SERVICE_DIRECTORY) || file.extension()? != "toml" {
        return None;
    }
    let only = file.file_name()? == PROJECT_FILE;
    Some(if only {
        PathBuf::new()
    } else {
        file.file_stem()?.into()
    })
}

/// A name for the directory of a project, if this file makes it one: two of the same name are two.
fn project(file: &Path) -> Option<PathBuf> {
    if file.file_name()? != PROJECT_FILE {
        return None;
    }
    let directory = file.parent()?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let sum = checksum(&directory.to_string_lossy());
    Some(format!("{name}-{sum:08x}").into())
}

/// The absolute directory that a variable names; of several (systemd separates them by `:`) the first.
pub(in crate::config) fn directory(env: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let value = env(name)?;
    let first = std::env::split_paths(&value).next()?;
    // The XDG base directory specification: a relative path is to be ignored.
    first.is_absolute().then_some(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        let pairs: BTreeMap<String, OsString> = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.into()))
            .collect();
        move |name| pairs.get(name).cloned()
    }

    #[test]
    fn systemd_names_the_state_directory_before_xdg_and_home() {
        let home = ("HOME", "/home/ann");
        let state = ("STATE_DIRECTORY", "/var/lib/pool:/var/lib/other");
        assert_eq!(Places::of(&env(&[]), None).broker_file, None);
        assert_eq!(
            Places::of(&env(&[home]), None).broker_file,
            Some("/home/ann/.local/state/pool/pool.db".into())
        );
        assert_eq!(
            Places::of(&env(&[home, ("XDG_STATE_HOME", "/s")]), None).broker_file,
            Some("/s/pool/pool.db".into())
        );
        assert_eq!(
            Places::of(&env(&[home, state]), None).broker_file,
            Some("/var/lib/pool/pool.db".into())
        );
    }

    #[test]
    fn a_service_and_a_shell_that_reads_its_file_agree() {
        let shell = env(&[("HOME", "/home/ann"), ("XDG_RUNTIME_DIR", "/run/user/1")]);
        for (file, state, runtime) in [
            ("/etc/pool/pool.toml", "/var/lib/pool", "/run/pool"),
            ("/etc/pool/mail.toml", "/var/lib/pool/mail", "/run/pool/mail"),
        ] {
            let pairs = [("STATE_DIRECTORY", state), ("RUNTIME_DIRECTORY", runtime)];
            let service = env(&pairs);
            let places = Places::of(&shell, Some(Path::new(file)));
            assert_eq!(places, Places::of(&service, Some(Path::new(file))), "{file}");
            assert_eq!(places.broker_file, Some(Path::new(state).join("pool.db")));
        }
    }

    #[test]
    fn each_project_has_a_file_of_its_own() {
        let shell = env(&[("HOME", "/home/ann")]);
        let file_of = |config: &str| Places::of(&shell, Some(Path::new(config))).broker_file.unwrap();
        let (one, other) = (file_of("/srv/a/shop/pool.toml"), file_of("/srv/b/shop/pool.toml"));
        assert_ne!(one, other);
        assert!(one.starts_with("/home/ann/.local/state/pool/"), "{one:?}");
        // Another name makes no project.
        assert_eq!(
            Some(file_of("/srv/a/shop/jobs.toml")),
            Places::of(&shell, None).broker_file
        );
    }

    #[test]
    fn two_brokers_have_two_sockets() {
        let places = Places::of(&env(&[("RUNTIME_DIRECTORY", "/run/pool")]), None);
        let socket_of = |url: &str| places.socket(&BrokerUrl::parse(url, Path::to_path_buf).unwrap());
        assert_eq!(
            socket_of("redis://h/3"),
            Some("/run/pool/pool-h-6379-3.sock".into())
        );
        assert_ne!(socket_of("redis://h/3"), socket_of("redis://h/4"));
        assert_eq!(socket_of("redis://:secret@h/3"), socket_of("redis://h/3"));
    }

    #[test]
    fn the_history_outlives_a_boot_which_a_socket_need_not() {
        let places = Places::of(
            &env(&[
                ("RUNTIME_DIRECTORY", "/run/pool"),
                ("STATE_DIRECTORY", "/var/lib/pool"),
            ]),
            None,
        );
        for (socket, history) in [
            (
                "/run/pool/pool-h-6379-3.sock",
                "/var/lib/pool/pool-h-6379-3.sock.history",
            ),
            ("/var/lib/pool/pool.db.sock", "/var/lib/pool/pool.db.sock.history"),
            ("/srv/shop/own.sock", "/srv/shop/own.sock.history"),
        ] {
            assert_eq!(places.history(Path::new(socket)), Path::new(history));
        }
        let nowhere = Places::default();
        assert_eq!(
            nowhere.history(Path::new("/d/a.sock")),
            Path::new("/d/a.sock.history")
        );
    }

    #[test]
    fn two_databases_of_one_directory_have_two_sockets() {
        let socket_of = |file: &str| Places::default().socket(&BrokerUrl::Sqlite(file.into()));
        assert_eq!(socket_of("/d/a.db"), Some("/d/a.db.sock".into()));
        assert_eq!(socket_of("/d/a.sqlite"), Some("/d/a.sqlite.sock".into()));
    }

    #[test]
    fn without_a_file_the_socket_is_in_the_runtime_directory() {
        let both = env(&[
            ("RUNTIME_DIRECTORY", "/run/pool"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ]);
        assert_eq!(
            Places::of(&both, None).socket(&BrokerUrl::Memory),
            Some("/run/pool/pool.sock".into())
        );
        let home = env(&[("HOME", "/home/ann")]);
        assert_eq!(
            Places::of(&home, None).socket(&BrokerUrl::Memory),
            Some("/home/ann/.local/state/pool/pool.sock".into())
        );
        assert_eq!(Places::default().socket(&BrokerUrl::Memory), None);
    }
}
