// SPDX-License-Identifier: GPL-2.0
/*
 * The model as a QEMU device: a PF with SR-IOV, and its VFs.
 *
 * Preloaded into a stock qemu-system-x86_64, whose binary exports its device
 * API for its own modules. All there is to it is PCI: what the registers mean
 * is the model's business. pci-config.c has the configuration space.
 */

#include "qemu/osdep.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/msix.h"
#include "hw/pci/pcie.h"
#include "hw/pci/pcie_sriov.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "net/net.h"

#include "mlx5-emu.h"
#include "pci-config.h"

#define TYPE_MLX5_EMU       "mlx5-emu"
#define TYPE_MLX5_EMU_VF    "mlx5-emu-vf"
OBJECT_DECLARE_SIMPLE_TYPE(Mlx5Emu, MLX5_EMU)
OBJECT_DECLARE_SIMPLE_TYPE(Mlx5EmuVf, MLX5_EMU_VF)

#define MELLANOX            0x15b3
#define CONNECTX_6_DX       0x101d

#define NOBODY              "mlx5-emu-nobody"

#define PF_BAR_SIZE         (32 * MiB)
#define PF_ROM_SIZE         (1 * MiB)
#define VF_BAR_SIZE         (1 * MiB)

/* As crate mlx5-emu-regs has it. */
#define CONTROL_CAP         0xf00
#define CONTROL_HEADER      0x04
#define CONTROL_REGISTERS   0x08
#define CONTROL_LEN         0x40
#define CONTROL_ID          (CONTROL_LEN << 20 | 1 << 16 | 0x4d4c)

/* As the model has it. */
#define MAX_VFS             64

#define BAR_TYPE            (PCI_BASE_ADDRESS_SPACE_MEMORY | \
                             PCI_BASE_ADDRESS_MEM_TYPE_64 | \
                             PCI_BASE_ADDRESS_MEM_PREFETCH)

struct Mlx5Emu {
    PCIDevice parent_obj;
    MemoryRegion bar;
    MemoryRegion registers;
    MemoryRegion rom;
    QEMUTimer *timer;
    NICConf nic_conf;
    NICState *nic;
    struct mlx5_emu *model;
    struct vpd vpd;

    uint16_t vfs;
    uint32_t init_pages;
    uint16_t vectors;
    uint16_t vf_vectors;
    char *serial;
    uint64_t state_size;
    uint64_t chunk_size;
    bool chunks_grow;
    uint32_t save_unwritten;
    bool migration_state;
    uint32_t command_timeout_ms;
    uint64_t command_us;
    bool recorded_times;
    uint64_t report_us;
    uint64_t message_us;
    uint32_t rnr_retries;
    uint16_t page_repeats;
    uint8_t log_max_message;
    uint16_t trackers;
    uint8_t log_max_mkey_page;
    uint64_t suspend_us;
    uint64_t resume_us;
    uint64_t save_us_per_mib;
    uint64_t load_us_per_mib;
    char *faults;
    char *event_log;
    char *violations_log;
};

struct Mlx5EmuVf {
    PCIDevice parent_obj;
    MemoryRegion bar;
    MemoryRegion registers;
};

/* A function as the model counts them: the PF is 0. */
static PCIDevice *function_of(Mlx5Emu *pf, uint16_t function)
{
    if (!function) {
        return PCI_DEVICE(pf);
    }
    return pcie_sriov_get_vf_at_index(PCI_DEVICE(pf), function - 1);
}

static int emu_dma(void *opaque, uint16_t function, uint64_t addr, void *buf,
                   uint64_t len, bool write)
{
    PCIDevice *dev = function_of(opaque, function);

    if (!dev) {
        return -1;
    }
    return pci_dma_rw(dev, addr, buf, len,
                      write ? DMA_DIRECTION_FROM_DEVICE
                            : DMA_DIRECTION_TO_DEVICE,
                      MEMTXATTRS_UNSPECIFIED) == MEMTX_OK ? 0 : -1;
}

static bool emu_is_bus_master(void *opaque, uint16_t function)
{
    PCIDevice *dev = function_of(opaque, function);

    return dev && pci_get_word(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static void emu_interrupt(void *opaque, uint16_t function, uint16_t vector)
{
    PCIDevice *dev = function_of(opaque, function);

    if (dev && msix_enabled(dev) && vector < dev->msix_entries_nr) {
        msix_notify(dev, vector);
    }
}

static uint64_t emu_now(void *opaque)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static void emu_wake_at(void *opaque, uint64_t time)
{
    timer_mod(((Mlx5Emu *)opaque)->timer, time);
}

static void emu_timer(void *opaque)
{
    mlx5_emu_timer(((Mlx5Emu *)opaque)->model);
}

/*
 * A frame that the network cannot take yet stays in QEMU's queue. Beyond
 * 10,000 of them, QEMU drops what comes, as a switch does that is too slow.
 */
static void emu_send(void *opaque, const uint8_t *frame, uint64_t len)
{
    qemu_send_packet(qemu_get_queue(((Mlx5Emu *)opaque)->nic), frame, len);
}

static ssize_t nic_receive(NetClientState *client, const uint8_t *buf,
                           size_t size)
{
    Mlx5Emu *pf = qemu_get_nic_opaque(client);

    mlx5_emu_receive(pf->model, buf, size);
    return size;
}

static void nic_link_status_changed(NetClientState *client)
{
    Mlx5Emu *pf = qemu_get_nic_opaque(client);

    mlx5_emu_set_link(pf->model, !client->link_down);
}

static NetClientInfo nic_info = {
    .type = NET_CLIENT_DRIVER_NIC,
    .size = sizeof(NICState),
    .receive = nic_receive,
    .link_status_changed = nic_link_status_changed,
};

static uint64_t pf_read(void *opaque, hwaddr offset, unsigned int size)
{
    return mlx5_emu_read(((Mlx5Emu *)opaque)->model, 0, offset);
}

static void pf_write(void *opaque, hwaddr offset, uint64_t value,
                     unsigned int size)
{
    mlx5_emu_write(((Mlx5Emu *)opaque)->model, 0, offset, value);
}

static uint64_t vf_read(void *opaque, hwaddr offset, unsigned int size)
{
    PCIDevice *vf = opaque;

    return mlx5_emu_read(MLX5_EMU(pcie_sriov_get_pf(vf))->model,
                         pcie_sriov_vf_number(vf) + 1, offset);
}

static void vf_write(void *opaque, hwaddr offset, uint64_t value,
                     unsigned int size)
{
    PCIDevice *vf = opaque;

    mlx5_emu_write(MLX5_EMU(pcie_sriov_get_pf(vf))->model,
                   pcie_sriov_vf_number(vf) + 1, offset, value);
}

static const MemoryRegionOps pf_ops = {
    .read = pf_read,
    .write = pf_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

static const MemoryRegionOps vf_ops = {
    .read = vf_read,
    .write = vf_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

/* The expansion ROM is empty: its first bytes are no signature. */
static uint64_t rom_read(void *opaque, hwaddr offset, unsigned int size)
{
    return UINT64_MAX;
}

static void rom_write(void *opaque, hwaddr offset, uint64_t value,
                      unsigned int size)
{
}

static const MemoryRegionOps rom_ops = {
    .read = rom_read,
    .write = rom_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

/*
 * What nobody answers to behind a port reads as ones, as on hardware. QEMU
 * itself reads zeros there. The region stays when the PF is unplugged.
 */
static uint64_t nobody_read(void *opaque, hwaddr offset, unsigned int size)
{
    return UINT64_MAX;
}

static void nobody_write(void *opaque, hwaddr offset, uint64_t value,
                         unsigned int size)
{
}

static const MemoryRegionOps nobody_ops = {
    .read = nobody_read,
    .write = nobody_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

static void answer_for_nobody(PCIBus *bus)
{
    Object *port = OBJECT(bus->parent_dev);
    MemoryRegion *nobody;

    /* On the root bus, others answer. */
    if (!port || object_property_find(port, NOBODY "[0]")) {
        return;
    }
    nobody = g_new0(MemoryRegion, 1);
    memory_region_init_io(nobody, port, &nobody_ops, NULL, NOBODY, UINT64_MAX);
    memory_region_add_subregion_overlap(bus->address_space_mem, 0, nobody,
                                        INT_MIN);
}

/* Whether an access is one of a register of the control capability. */
static bool is_control(uint32_t addr, int len)
{
    return len == 4 && addr >= CONTROL_CAP + CONTROL_REGISTERS &&
           addr < CONTROL_CAP + CONTROL_LEN;
}

static uint32_t pf_config_read(PCIDevice *dev, uint32_t addr, int len)
{
    if (is_control(addr, len)) {
        return mlx5_emu_control_read(MLX5_EMU(dev)->model, addr - CONTROL_CAP);
    }
    return pf_config_do_read(dev, addr, len);
}

static void pf_config_write(PCIDevice *dev, uint32_t addr, uint32_t val,
                            int len)
{
    if (is_control(addr, len)) {
        mlx5_emu_control_write(MLX5_EMU(dev)->model, addr - CONTROL_CAP, val);
        return;
    }
    pf_config_do_write(dev, &MLX5_EMU(dev)->vpd, addr, val, len);
}

static void control_init(PCIDevice *dev)
{
    pcie_add_capability(dev, PCI_EXT_CAP_ID_VNDR, 1, CONTROL_CAP, CONTROL_LEN);
    pci_set_long(dev->config + CONTROL_CAP + CONTROL_HEADER, CONTROL_ID);
    dev->config_read = pf_config_read;
    dev->config_write = pf_config_write;
}

static void bar_init(PCIDevice *dev, MemoryRegion *bar,
                     MemoryRegion *registers, const MemoryRegionOps *ops,
                     uint64_t size)
{
    memory_region_init(bar, OBJECT(dev), "mlx5-emu-bar", size);
    memory_region_init_io(registers, OBJECT(dev), ops, dev, "mlx5-emu", size);
    memory_region_add_subregion(bar, 0, registers);
    pci_register_bar(dev, 0, BAR_TYPE, bar);
}

static void pf_realize(PCIDevice *dev, Error **errp)
{
    Mlx5Emu *pf = MLX5_EMU(dev);
    struct mlx5_emu_properties properties = {
        .vfs = pf->vfs,
        .vf_vectors = pf->vf_vectors,
        .init_pages = pf->init_pages,
        .network = pf->nic_conf.peers.ncs[0] != NULL,
        .state_size = pf->state_size,
        .chunk_size = pf->chunk_size,
        .chunks_grow = pf->chunks_grow,
        .save_unwritten = pf->save_unwritten,
        .migration_state = pf->migration_state,
        .command_timeout_ms = pf->command_timeout_ms,
        .command_us = pf->command_us,
        .recorded_times = pf->recorded_times,
        .report_us = pf->report_us,
        .message_us = pf->message_us,
        .rnr_retries = pf->rnr_retries,
        .page_repeats = pf->page_repeats,
        .log_max_message = pf->log_max_message,
        .trackers = pf->trackers,
        .log_max_mkey_page = pf->log_max_mkey_page,
        .suspend_us = pf->suspend_us,
        .resume_us = pf->resume_us,
        .save_us_per_mib = pf->save_us_per_mib,
        .load_us_per_mib = pf->load_us_per_mib,
        .faults = pf->faults,
        .event_log = pf->event_log,
        .violations_log = pf->violations_log,
    };
    struct mlx5_emu_callbacks callbacks = {
        .opaque = pf,
        .dma = emu_dma,
        .is_bus_master = emu_is_bus_master,
        .interrupt = emu_interrupt,
        .now = emu_now,
        .wake_at = emu_wake_at,
        .send = emu_send,
    };

    struct pf_config config = {
        .vf_type = TYPE_MLX5_EMU_VF,
        .vfs = pf->vfs,
        .vectors = pf->vectors,
        .serial = pf->serial ? pf->serial : "NOT-A-REAL-CARD",
    };
    if (pf->vfs > MAX_VFS) {
        error_setg(errp, "num-vfs is %d at most", MAX_VFS);
        return;
    }
    if (properties.network) {
        qemu_macaddr_default_if_unset(&pf->nic_conf.macaddr);
        memcpy(properties.mac, pf->nic_conf.macaddr.a, sizeof(properties.mac));
    }

    pf->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, emu_timer, pf);
    pf->model = mlx5_emu_new(&properties, callbacks);
    if (!pf->model) {
        timer_free(pf->timer);
        error_setg(errp, "bad property, see above");
        return;
    }

    bar_init(dev, &pf->bar, &pf->registers, &pf_ops, PF_BAR_SIZE);
    memory_region_init_io(&pf->rom, OBJECT(dev), &rom_ops, dev, "mlx5-emu-rom",
                          PF_ROM_SIZE);
    pci_register_bar(dev, PCI_ROM_SLOT, 0, &pf->rom);
    if (!pf_config_init(dev, &pf->bar, &config, &pf->vpd, errp)) {
        timer_free(pf->timer);
        mlx5_emu_free(pf->model);
        return;
    }
    pcie_sriov_pf_init_vf_bar(dev, 0, BAR_TYPE, VF_BAR_SIZE);
    control_init(dev);
    answer_for_nobody(pci_get_bus(dev));
    if (properties.network) {
        DeviceState *device = DEVICE(dev);

        pf->nic = qemu_new_nic(&nic_info, &pf->nic_conf, TYPE_MLX5_EMU,
                               device->id, &device->mem_reentrancy_guard, pf);
        qemu_format_nic_info_str(qemu_get_queue(pf->nic), properties.mac);
    }
}

static void pf_exit(PCIDevice *dev)
{
    Mlx5Emu *pf = MLX5_EMU(dev);

    if (pf->nic) {
        qemu_del_nic(pf->nic);
    }
    pf_config_exit(dev, &pf->bar);
    timer_free(pf->timer);
    mlx5_emu_free(pf->model);
}

static void vf_realize(PCIDevice *dev, Error **errp)
{
    Mlx5EmuVf *vf = MLX5_EMU_VF(dev);
    Mlx5Emu *pf = MLX5_EMU(pcie_sriov_get_pf(dev));

    dev->config_write = vf_config_do_write;
    bar_init(dev, &vf->bar, &vf->registers, &vf_ops, VF_BAR_SIZE);
    vf_config_init(dev, &vf->bar, pf->vf_vectors, errp);
}

static void vf_exit(PCIDevice *dev)
{
    vf_config_exit(dev, &MLX5_EMU_VF(dev)->bar);
}

static void pf_reset(DeviceState *dev)
{
    pf_config_reset(PCI_DEVICE(dev));
    mlx5_emu_reset(MLX5_EMU(dev)->model, 0);
}

static void vf_reset(DeviceState *dev)
{
    PCIDevice *vf = PCI_DEVICE(dev);
    Mlx5Emu *pf = MLX5_EMU(pcie_sriov_get_pf(vf));

    mlx5_emu_reset(pf->model, pcie_sriov_vf_number(vf) + 1);
}

static const Property pf_properties[] = {
    DEFINE_NIC_PROPERTIES(Mlx5Emu, nic_conf),
    DEFINE_PROP_UINT16("num-vfs", Mlx5Emu, vfs, 8),
    DEFINE_PROP_UINT32("init-pages", Mlx5Emu, init_pages, 12868),
    DEFINE_PROP_UINT16("vectors", Mlx5Emu, vectors, 64),
    DEFINE_PROP_UINT16("vf-vectors", Mlx5Emu, vf_vectors, 12),
    DEFINE_PROP_STRING("serial-number", Mlx5Emu, serial),
    DEFINE_PROP_SIZE("state-size", Mlx5Emu, state_size, 1 * MiB),
    DEFINE_PROP_SIZE("chunk-size", Mlx5Emu, chunk_size, 0),
    DEFINE_PROP_BOOL("chunks-grow", Mlx5Emu, chunks_grow, false),
    DEFINE_PROP_UINT32("save-unwritten", Mlx5Emu, save_unwritten, 0),
    DEFINE_PROP_BOOL("migration-state", Mlx5Emu, migration_state, true),
    DEFINE_PROP_UINT32("cmd-timeout-ms", Mlx5Emu, command_timeout_ms, 0),
    DEFINE_PROP_UINT64("cmd-us", Mlx5Emu, command_us, 0),
    DEFINE_PROP_BOOL("recorded-times", Mlx5Emu, recorded_times, false),
    DEFINE_PROP_UINT64("report-us", Mlx5Emu, report_us, 0),
    DEFINE_PROP_UINT64("message-us", Mlx5Emu, message_us, 0),
    DEFINE_PROP_UINT32("rnr-retries", Mlx5Emu, rnr_retries, 0),
    DEFINE_PROP_UINT16("page-repeats", Mlx5Emu, page_repeats, 1),
    DEFINE_PROP_UINT8("log-max-message", Mlx5Emu, log_max_message, 12),
    DEFINE_PROP_UINT16("trackers", Mlx5Emu, trackers, 64),
    DEFINE_PROP_UINT8("log-max-mkey-page", Mlx5Emu, log_max_mkey_page, 31),
    DEFINE_PROP_UINT64("suspend-us", Mlx5Emu, suspend_us, 0),
    DEFINE_PROP_UINT64("resume-us", Mlx5Emu, resume_us, 0),
    DEFINE_PROP_UINT64("save-us-per-mib", Mlx5Emu, save_us_per_mib, 0),
    DEFINE_PROP_UINT64("load-us-per-mib", Mlx5Emu, load_us_per_mib, 0),
    DEFINE_PROP_STRING("faults", Mlx5Emu, faults),
    DEFINE_PROP_STRING("event-log", Mlx5Emu, event_log),
    DEFINE_PROP_STRING("violations-log", Mlx5Emu, violations_log),
};

/* A snapshot or a migration of the machine itself would lose the model. */
static const VMStateDescription unmigratable = {
    .name = TYPE_MLX5_EMU,
    .unmigratable = 1,
};

static void class_init_common(ObjectClass *class, uint16_t device_id)
{
    PCIDeviceClass *pci = PCI_DEVICE_CLASS(class);

    pci->vendor_id = MELLANOX;
    pci->device_id = device_id;
    pci->subsystem_vendor_id = MELLANOX;
    pci->class_id = PCI_CLASS_NETWORK_ETHERNET;
}

static void pf_class_init(ObjectClass *class, void *data)
{
    DeviceClass *device = DEVICE_CLASS(class);
    PCIDeviceClass *pci = PCI_DEVICE_CLASS(class);

    class_init_common(class, CONNECTX_6_DX);
    pci->realize = pf_realize;
    pci->exit = pf_exit;
    device->desc = "Emulated ConnectX HCA";
    device->vmsd = &unmigratable;
    device_class_set_legacy_reset(device, pf_reset);
    device_class_set_props(device, pf_properties);
}

static void vf_class_init(ObjectClass *class, void *data)
{
    DeviceClass *device = DEVICE_CLASS(class);
    PCIDeviceClass *pci = PCI_DEVICE_CLASS(class);

    class_init_common(class, CONNECTX_VF);
    pci->realize = vf_realize;
    pci->exit = vf_exit;
    device->desc = "Virtual function of an emulated ConnectX HCA";
    device->user_creatable = false;
    device_class_set_legacy_reset(device, vf_reset);
}

static const TypeInfo types[] = {
    {
        .name = TYPE_MLX5_EMU,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(Mlx5Emu),
        .class_init = pf_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { }
        },
    },
    {
        .name = TYPE_MLX5_EMU_VF,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(Mlx5EmuVf),
        .class_init = vf_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { }
        },
    },
};

static void register_types(void)
{
    type_register_static_array(types, ARRAY_SIZE(types));
}

/*
 * A program that has none of these is no QEMU, or one that does not export its
 * device API. They are weak, for such a program to start all the same: it may
 * be a wrapper that starts QEMU.
 */
#pragma weak qmp_query_version
#pragma weak qdev_prop_bool
#pragma weak qdev_prop_macaddr
#pragma weak qdev_prop_netdev
#pragma weak qdev_prop_size
#pragma weak qdev_prop_string
#pragma weak qdev_prop_uint8
#pragma weak qdev_prop_uint16
#pragma weak qdev_prop_uint32
#pragma weak qdev_prop_uint64

/*
 * Whether this is a QEMU with the structures of the headers that this was
 * compiled with. They stay the same within a stable series.
 */
static bool fits(void)
{
    g_autoptr(VersionInfo) version = NULL;

    if (!qmp_query_version) {
        if (!strncmp(program_invocation_short_name, "qemu-system-", 12)) {
            fprintf(stderr, "mlx5-emu: this QEMU does not export its device "
                    "API: it was built without modules\n");
        }
        return false;
    }
    version = qmp_query_version(NULL);
    if (version->qemu->major == QEMU_VERSION_MAJOR &&
        version->qemu->minor == QEMU_VERSION_MINOR) {
        return true;
    }
    fprintf(stderr, "mlx5-emu: this is QEMU %" PRId64 ".%" PRId64 ", but "
            "mlx5-emu.so was built for %d.%d\n", version->qemu->major,
            version->qemu->minor, QEMU_VERSION_MAJOR, QEMU_VERSION_MINOR);
    return false;
}

/*
 * Not type_init(): that is for code linked into QEMU, which defines what its
 * constructor needs on the command line.
 */
static void __attribute__((constructor)) preloaded(void)
{
    if (fits()) {
        register_module_init(register_types, MODULE_INIT_QOM);
    }
}
