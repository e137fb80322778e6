//! The actions that polkit knows op-dbus's calls by, one for each risk, and the file that tells polkit of
//! them. Who may do them is said in that file, and by the administrator's rules.

use crate::executor::risk_name;
use crate::proto::opdbus::v1::Risk;

/// The user that the service runs as, who may ask polkit about others.
const OWNER: &str = "op-dbus";

/// The risks, and what calls of each do.
const RISKS: [(Risk, &str); 5] = [
    (Risk::Read, "read through op-dbus"),
    (Risk::Write, "change your own data through op-dbus"),
    (Risk::Execute, "run programs through op-dbus"),
    (Risk::Deploy, "change running services through op-dbus"),
    (Risk::Admin, "change op-dbus or this system"),
];

/// The action for calls of this risk, as `org.opdbus.deploy`. A forgotten risk is the gravest.
#[must_use]
pub fn action(risk: Risk) -> String {
    let risk = if risk == Risk::Unspecified { Risk::Admin } else { risk };
    format!("org.opdbus.{}", risk_name(risk))
}

/// The content of `/usr/share/polkit-1/actions/org.opdbus.policy`.
#[must_use]
pub fn policy_file() -> String {
    let mut file = HEAD.to_owned();
    for (risk, what) in RISKS {
        let mut letters = what.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        let description: String = first.into_iter().chain(letters).collect();
        let action = action(risk);
        file += &format!(
            r#"
  <action id="{action}">
    <description>{description}</description>
    <message>Authentication is required to {what}</message>
    <defaults>
      <allow_any>auth_admin</allow_any>
      <allow_inactive>auth_admin</allow_inactive>
      <allow_active>auth_admin_keep</allow_active>
    </defaults>
    <annotate key="org.freedesktop.policykit.owner">unix-user:{OWNER}</annotate>
  </action>
"#
        );
    }
    file + "\n</policyconfig>\n"
}

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/PolicyKit/1/policyconfig.dtd">
<!-- Generated from the risks of operations by src/polkit/actions.rs. -->
<policyconfig>
  <vendor>op-dbus</vendor>
"#;
