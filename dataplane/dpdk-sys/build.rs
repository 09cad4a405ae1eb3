// SPDX-License-Identifier: Apache-2.0
//! Bindings of libdpdk, made from the headers that pkg-config names. Without the feature `libdpdk` nothing is
//! looked for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "libdpdk")]
    if let Err(message) = libdpdk::generate() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

#[cfg(feature = "libdpdk")]
mod libdpdk {
    use std::env;
    use std::path::PathBuf;

    /// Libraries that are linked. The drivers are plugins: EAL opens them from its own folder.
    const LIBRARIES: [&str; 4] = ["rte_eal", "rte_ethdev", "rte_mempool", "rte_mbuf"];

    /// Functions that are bound, one name or pattern each.
    const FUNCTIONS: [&str; 35] = [
        "sg_.*",
        "rte_eal_init",
        "rte_eal_iova_mode",
        "rte_version",
        "rte_strerror",
        "rte_log_set_global_level",
        "rte_dev_probe",
        "rte_dev_remove",
        "rte_dev_dma_map",
        "rte_extmem_register",
        "rte_mempool_register_ops",
        "rte_mempool_free",
        "rte_eth_dev_get_port_by_name",
        "rte_eth_dev_adjust_nb_rx_tx_desc",
        "rte_eth_dev_start",
        "rte_eth_dev_stop",
        "rte_eth_dev_close",
        "rte_eth_dev_set_mtu",
        "rte_eth_dev_get_mtu",
        "rte_eth_dev_vlan_filter",
        "rte_eth_dev_set_mc_addr_list",
        "rte_eth_dev_default_mac_addr_set",
        "rte_eth_dev_mac_addr_add",
        "rte_eth_macaddr_get",
        "rte_eth_rx_queue_setup",
        "rte_eth_tx_queue_setup",
        "rte_eth_tx_burst",
        "rte_eth_promiscuous_enable",
        "rte_eth_allmulticast_enable",
        "rte_eth_stats_get",
        "rte_eth_tx_done_cleanup",
        "rte_eth_dev_socket_id",
        "rte_eth_dev_is_removed",
        "rte_eth_dev_count_avail",
        "rte_mempool_avail_count",
    ];

    pub(super) fn generate() -> Result<(), String> {
        println!("cargo:rerun-if-changed=wrapper.h");
        let found = pkg_config::Config::new()
            .atleast_version("22.11")
            .cargo_metadata(false)
            .probe("libdpdk")
            .map_err(|error| {
                format!(
                    "libdpdk 22.11 or later was not found by pkg-config: install it (Debian: libdpdk-dev), or \
                     build without the feature `dpdk`\n{error}"
                )
            })?;
        for folder in &found.link_paths {
            println!("cargo:rustc-link-search=native={}", folder.display());
        }
        for library in LIBRARIES {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
        let flags = flags()?;
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
        let wrapped = out.join("wrapped.c");
        let mut builder = bindgen::Builder::default()
            .header("wrapper.h")
            .clang_args(&flags)
            .rust_edition(bindgen::RustEdition::Edition2024)
            .default_enum_style(bindgen::EnumVariation::ModuleConsts)
            .wrap_unsafe_ops(true)
            .wrap_static_fns(true)
            .wrap_static_fns_path(&wrapped)
            .allowlist_var("RTE_LOG_.*")
            // Large, and passed on as a pointer only.
            .opaque_type("rte_mempool")
            .opaque_type("rte_eth_rxconf")
            .opaque_type("rte_eth_txconf")
            .opaque_type("rte_device");
        for function in FUNCTIONS {
            builder = builder.allowlist_function(function);
        }
        let bindings = builder
            .generate()
            .map_err(|error| format!("bindgen over DPDK's headers failed: {error}"))?;
        bindings
            .write_to_file(out.join("bindings.rs"))
            .map_err(|error| format!("the bindings cannot be written: {error}"))?;
        let mut compiler = cc::Build::new();
        compiler
            .file(&wrapped)
            .include(".")
            .warnings(false)
            .opt_level(3);
        for flag in &flags {
            compiler.flag(flag);
        }
        compiler
            .try_compile("sluice_dpdk_wrapped")
            .map_err(|error| {
                format!("the wrappers of DPDK's inline functions do not compile: {error}")
            })
    }

    /// Flags of libdpdk for the C compiler: all of them, as its headers need `-include rte_config.h` and `-march`.
    fn flags() -> Result<Vec<String>, String> {
        let output =
            std::process::Command::new(env::var_os("PKG_CONFIG").unwrap_or("pkg-config".into()))
                .args(["--cflags", "libdpdk"])
                .output()
                .map_err(|error| format!("pkg-config cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let flags = text.split_whitespace().map(str::to_owned);
        // fopencookie.
        Ok(flags.chain(["-D_GNU_SOURCE".to_owned()]).collect())
    }
}
