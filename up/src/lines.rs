//! Lines to paste that are true of a world: each is run by a test, which holds it to what it says.

use std::path::Path;

use crate::addresses::{Addresses, USER};
use crate::control::DEFAULT_WORLD;
use crate::seen::nearest_regions;
use crate::spec::{Place, Region, Spec};
use crate::world::{CDN_FILE, CDN_HOST, KUBECONFIG, SHOP_HOST};

/// A line for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it shows.
    pub shows: String,
    /// The line.
    pub command: String,
}

/// The lines, in the order in which a newcomer would run them. `program` is what `isochrone` is called here.
pub(crate) fn of(spec: &Spec, dir: &Path, program: &Path) -> Vec<Line> {
    let mut lines = vec![];
    let mut line = |shows: &str, command: String| lines.push(Line { shows: shows.to_owned(), command });
    let isochrone = quoted(program);
    let world = match Addresses::hub(spec).control() {
        usual if usual == DEFAULT_WORLD => format!("{isochrone} world"),
        other => format!("{isochrone} world --world {other}"),
    };
    line(
        "every cluster has a context: hub, and each region",
        format!("export KUBECONFIG={}", quoted(&dir.join(KUBECONFIG))),
    );
    line("clusters, apps and hosts, as the hub sees them", format!("{isochrone} status"));
    line("what was declared", "kubectl --context hub get -n shop regionpolicies,apps.isochrone.dev".to_owned());
    if let Some(region) = spec.regions.first() {
        let shows = format!("what was delivered to {}", region.name);
        line(&shows, format!("kubectl --context {} get -n shop deployments,pods,services", region.name));
    }
    for user in samples(spec) {
        let User { city, cluster, dig, curl, .. } = &user;
        line(&format!("a user in {city} is sent to {cluster}"), dig.replace("HOST", SHOP_HOST));
        line("and served there", curl.replace("HOST", SHOP_HOST));
    }
    // One that has somewhere else to go.
    let Some(user) = samples(spec).nth(1).or_else(|| samples(spec).next()) else { return lines };
    let User { city, cluster, address, admin, curl, .. } = &user;
    line(
        &format!("why users in {city} are sent to {cluster}"),
        format!("{isochrone} explain {SHOP_HOST} --client {address} --node {admin}"),
    );
    if spec.regions.len() > 1 {
        line(&format!("nothing goes in or out of {cluster} any more"), format!("{world} stop {cluster}"));
        line("within some ten seconds every node has taken it out of its answers", format!("{world} status"));
        line(&format!("{cluster} returns, and its users with it"), format!("{world} start {cluster}"));
        line("the same without a failed request: its users leave first", format!("{world} stop {cluster} --graceful"));
        line("", format!("{world} start {cluster}"));
    }
    line(
        &format!("{cluster} and the hub do not hear each other: nobody moves"),
        format!("{world} partition {cluster}"),
    );
    line("", format!("{world} heal {cluster}"));
    let cdn = quoted(&dir.join(CDN_FILE));
    line(
        "a content delivery network: files in a ConfigMap, in every region",
        format!("kubectl --context hub apply -f {cdn}"),
    );
    line(
        "",
        "kubectl --context hub wait -n cdn --for=condition=Ready --timeout=60s apps.isochrone.dev/site".to_owned(),
    );
    line(&format!("as users in {city} see it"), curl.replace("HOST", CDN_HOST));
    line(
        "a changed file is changed everywhere",
        format!("sed 's/Hello/Good morning/' {cdn} | kubectl --context hub apply -f -"),
    );
    lines
}

/// A user, and their lines with `HOST` for the host.
struct User {
    city: String,
    cluster: String,
    address: std::net::Ipv4Addr,
    /// The admin port of the DNS node that they ask.
    admin: std::net::SocketAddr,
    dig: String,
    curl: String,
}

/// For each region the first city whose users are nearest to it.
fn samples(spec: &Spec) -> impl Iterator<Item = User> {
    (1..).zip(&spec.regions).filter_map(|(number, region)| {
        let here = |(_, place): &(u8, &Place)| nearest_regions(spec, place).next().as_ref() == Some(&region.name);
        let (user, place) = spec.user_networks().find(here)?;
        Some(sample(spec, (number, region), (user, place)))
    })
}

fn sample(spec: &Spec, (number, region): (u8, &Region), (user, place): (u8, &Place)) -> User {
    let address = spec.address(user, USER);
    let at = Addresses::of(spec, number);
    let (node, http) = (at.dns().clients, spec.ports.http);
    let dig = format!("dig -b {address} +short -p {} @{} HOST", node.port(), node.ip());
    let curl = format!(
        "curl -sS --interface {address} -w ' in %{{time_total}} s\\n' --resolve HOST:{http}:$({dig} | head -1) \
         http://HOST:{http}/"
    );
    User { city: place.city.clone(), cluster: region.name.clone(), address, admin: at.dns_admin().clients, dig, curl }
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_a_user_and_another_network_is_named() {
        let cities: Vec<_> = samples(&Spec::default()).map(|user| (user.city, user.cluster)).collect();
        let expected = [("Berlin", "fra"), ("New York", "iad"), ("Jakarta", "sin")];
        assert_eq!(cities, expected.map(|(city, cluster)| (city.to_owned(), cluster.to_owned())));
        let here = |spec: &Spec| of(spec, Path::new("/tmp/w"), Path::new("/my programs/iso"));
        let lines = here(&Spec::default());
        let has = |lines: &[Line], words: &str| lines.iter().any(|line| line.command.contains(words));
        assert!(has(&lines, "'/my programs/iso' world stop iad") && has(&lines, "-p 1053 @127.1.2.53 shop.gslb"));
        assert!(!has(&lines, "HOST") && !has(&lines, "--world"));
        assert!(has(&here(&Spec { network: [127, 9], ..Spec::default() }), "world --world 127.9.0.1:7490 stop iad"));
    }

    #[test]
    fn a_shell_takes_a_path_for_one_word() {
        assert_eq!(quoted(Path::new("/a/b-1.c")), "/a/b-1.c");
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }
}
