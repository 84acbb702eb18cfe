//! Rotation without a reload: switches that nginx looks at with every request.
//!
//! A reload ends nginx's old workers, and they close the idle connections of clients: a request that is on
//! its way in that moment is lost (up to nginx 1.27.3; later `keepalive_min_timeout` waits). So the include
//! file has an upstream block for each choice of instances, and a second file, for the `server` block, picks
//! one by looking which switches are there:
//!
//! ```text
//! set $opsdeck_shop shop_;
//! set $opsdeck_in 1;
//! if (-f /run/opsdeck-shop/web1.out) { set $opsdeck_in 0; }
//! set $opsdeck_shop $opsdeck_shop$opsdeck_in;
//! ```
//!
//! `set` and `if` are carried out in their order (ngx_http_rewrite_module), in a `server` block before the
//! location is chosen. A switch means *out*: where all of them are lost, nginx asks everybody.

use std::fmt::Write as _;

use super::file::Upstream;

/// Instances that can be told apart: 2^N blocks.
pub const MOST: usize = 6;

/// The blocks: their names and who is in rotation in them, by the place in the list.
pub fn choices(upstream: &str, count: usize) -> impl Iterator<Item = (String, Vec<bool>)> {
    (0..1_usize << count.min(MOST)).map(move |choice| {
        let of: Vec<bool> = (0..count).map(|n| choice >> n & 1 == 1).collect();
        let digits: String = of.iter().map(|it| if *it { '1' } else { '0' }).collect();
        (format!("{upstream}_{digits}"), of)
    })
}

/// What `proxy_pass` names, with its dollar sign: `$opsdeck_shop`.
pub fn variable(upstream: &str) -> String {
    let safe = |it: char| if it.is_ascii_alphanumeric() { it } else { '_' };
    format!("$opsdeck_{}", upstream.chars().map(safe).collect::<String>())
}

/// The file of an instance that is out of rotation.
pub fn switch(instance: &str) -> String {
    format!("{instance}.out")
}

/// The file for the `server` block. `None`: without switches.
pub fn render(it: &Upstream) -> Option<String> {
    let directory = it.switches.as_ref()?;
    let name = variable(&it.name);
    let mut text = format!(
        "# Written by opsdeck for its gateway {}: include it in the server block, and say\n\
         #     proxy_pass http://{name};\n\
         # What was looked up once must not be believed for longer.\n\
         open_file_cache off;\n\
         # Who was chosen must be asked at once, not when a slow upload has ended.\n\
         proxy_request_buffering off;\n\
         set {name} {}_;\n",
        it.gateway, it.name
    );
    for server in &it.servers {
        let switch = switch(&server.instance);
        let _ = write!(
            text,
            "set $opsdeck_in 1;\n\
             if (-f \"{directory}/{switch}\") {{ set $opsdeck_in 0; }}\n\
             set {name} \"${{{}}}$opsdeck_in\";\n",
            &name[1..]
        );
    }
    Some(text)
}

/// Why nginx would not look at the switches, by all it has read (`nginx -T`); `included` is the path of the
/// file for the `server` block.
pub fn complaint(dump: &str, included: &str, upstream: &str) -> Option<String> {
    let name = variable(upstream);
    let file = included.rsplit('/').next().unwrap_or(included);
    let mark = format!("/{file}:");
    let is_read = |it: &str| it.starts_with("# configuration file ") && it.ends_with(&mark);
    if !dump.lines().any(is_read) {
        return Some(format!(
            "nginx does not read {included}: say `include {included};` in its server block"
        ));
    }
    let passes = |line: &str| {
        let line = line.trim_start();
        line.contains("proxy_pass") && !line.starts_with('#') && line.contains(&name)
    };
    let buffers = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("proxy_request_buffering") && words.next() == Some("on;")
    };
    if dump.lines().any(buffers) {
        return Some(
            "nginx says `proxy_request_buffering on`: what is chosen by a switch must be asked at once"
                .into(),
        );
    }
    let says = format!("no proxy_pass of nginx names {name}: say `proxy_pass http://{name};`");
    (!dump.lines().any(passes)).then_some(says)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::file::Server;
    use super::*;

    fn shop(name: &str) -> Upstream {
        let server = |it: &str| Server { instance: it.into(), ..Server::default() };
        Upstream {
            gateway: "shop".into(),
            name: name.into(),
            servers: vec![server("web1"), server("web2")],
            switches: Some("/run/shop".into()),
            ..Upstream::default()
        }
    }

    #[test]
    fn the_server_block_picks_by_what_is_there() {
        assert_snapshot!(render(&shop("my-shop")).unwrap(), @r#"
        # Written by opsdeck for its gateway shop: include it in the server block, and say
        #     proxy_pass http://$opsdeck_my_shop;
        # What was looked up once must not be believed for longer.
        open_file_cache off;
        # Who was chosen must be asked at once, not when a slow upload has ended.
        proxy_request_buffering off;
        set $opsdeck_my_shop my-shop_;
        set $opsdeck_in 1;
        if (-f "/run/shop/web1.out") { set $opsdeck_in 0; }
        set $opsdeck_my_shop "${opsdeck_my_shop}$opsdeck_in";
        set $opsdeck_in 1;
        if (-f "/run/shop/web2.out") { set $opsdeck_in 0; }
        set $opsdeck_my_shop "${opsdeck_my_shop}$opsdeck_in";
        "#);
        assert_eq!(render(&Upstream { switches: None, ..shop("x") }), None);
    }

    #[test]
    fn every_choice_has_a_name() {
        let names: Vec<_> = choices("x", 2).map(|it| it.0).collect();
        assert_eq!(names, ["x_00", "x_10", "x_01", "x_11"]);
        assert_eq!(choices("x", MOST).count(), 64);
    }

    #[test]
    fn a_configuration_that_does_not_look_is_told_what_to_say() {
        let file = "/n/shop.switch";
        let dump = "# configuration file /n/nginx.conf:\nproxy_pass http://shop;\n";
        assert!(complaint(dump, file, "shop").unwrap().contains("include /n/shop.switch;"));
        let dump =
            format!("{dump}# configuration file {file}:\n#   proxy_pass http://$opsdeck_shop;\n");
        assert!(
            complaint(&dump, file, "shop").unwrap().contains("proxy_pass http://$opsdeck_shop;")
        );
        let dump = format!("{dump}location / {{ proxy_pass http://$opsdeck_shop; }}\n");
        assert_eq!(complaint(&dump, file, "shop"), None);
        let dump = format!("{dump}  proxy_request_buffering on;\n");
        assert!(complaint(&dump, file, "shop").unwrap().contains("must be asked at once"));
    }
}
