// SPDX-License-Identifier: GPL-2.0
/*
 * The configuration space of the PF and of its VFs: what lspci shows of a
 * ConnectX-6 Dx with two ports, of which this is the first one.
 *
 * Offsets, lengths and vectors are those of public lspci output. What differs
 * has its reason in crate vm-common's config_space.rs, which a test machine
 * compares with what its kernel sees.
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/pci/msix.h"
#include "hw/pci/pcie.h"
#include "hw/pci/pcie_sriov.h"

#include "mlx5-emu.h"
#include "pci-config.h"

/* Both kinds of function. */
#define PCIE_CAP            0x60
#define MSIX_CAP            0x9c
#define MSIX_TABLE          0x2000
#define MSIX_PBA            0x3000
#define ARI_CAP             0x150
/* As DevCap has it: 512 bytes. */
#define MAX_PAYLOAD         2

/* The PF. */
#define PM_CAP              0x40
#define PM_VERSION          3
#define VPD_CAP             0x48
#define GATEWAY_CAP         0xc0
#define GATEWAY_LEN         0x18
#define AER_CAP             0x100
#define SRIOV_CAP           0x180
#define SECONDARY_PCIE_CAP  0x1c0
#define SECONDARY_PCIE_LEN  0x2c
#define ACS_CAP             0x230
#define SECONDARY_PCIE_HEADER   PCI_EXT_CAP(PCI_EXT_CAP_ID_SECPCI, 1, ACS_CAP)
#define DEVCAP2_10BIT_TAGS  0x10000
/* What the PCIe specification has a function begin with. */
#define DEVCTL_RESET        (PCI_EXP_DEVCTL_RELAX_EN | \
                             PCI_EXP_DEVCTL_NOSNOOP_EN | \
                             PCI_EXP_DEVCTL_READRQ_512B)
#define DEVCTL_WRITABLE     (PCI_EXP_DEVCTL_RELAX_EN | \
                             PCI_EXP_DEVCTL_PAYLOAD | \
                             PCI_EXP_DEVCTL_EXT_TAG | \
                             PCI_EXP_DEVCTL_NOSNOOP_EN | \
                             PCI_EXP_DEVCTL_READRQ)

#define VF_OFFSET           2
#define VF_STRIDE           1
#define VF_PAGE_SIZES       0x7ff

/* The gateway to firmware's address spaces, as mlx5_core's pci_vsc.c has it. */
#define GATEWAY_CONTROL     (GATEWAY_CAP + 0x4)
#define GATEWAY_COUNTER     (GATEWAY_CAP + 0x8)
#define GATEWAY_SEMAPHORE   (GATEWAY_CAP + 0xc)
#define GATEWAY_SPACE       0xffff

/* A VF. */
#define HIDDEN_CAP          0x100
#define HIDDEN_LEN          0xc

static bool vectors_init(PCIDevice *dev, MemoryRegion *bar, uint16_t vectors,
                         Error **errp)
{
    int i;

    if (msix_init(dev, vectors, bar, 0, MSIX_TABLE, bar, 0, MSIX_PBA, MSIX_CAP,
                  errp)) {
        return false;
    }
    for (i = 0; i < vectors; i++) {
        msix_vector_use(dev, i);
    }
    return true;
}

static bool express_init(PCIDevice *dev, Error **errp)
{
    if (pcie_endpoint_cap_init(dev, PCIE_CAP) < 0) {
        error_setg(errp, "no room for the PCIe capability");
        return false;
    }
    pci_long_test_and_set_mask(dev->config + PCIE_CAP + PCI_EXP_DEVCAP,
                               PCI_EXP_DEVCAP_EXT_TAG | MAX_PAYLOAD);
    pcie_cap_flr_init(dev);
    return true;
}

static uint8_t *append(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static uint8_t *append_field(uint8_t *at, const char *keyword,
                             const char *value)
{
    size_t len = strlen(value);

    at = append(at, keyword, 2);
    *at++ = len;
    return append(at, value, len);
}

/* Resources as the PCI specification has them: name, read-only fields, end. */
static bool vpd_init(struct vpd *vpd, const char *serial, Error **errp)
{
    static const char name[] = "Emulated ConnectX-6 Dx";
    uint8_t *at = vpd->bytes, *fields;
    uint8_t sum = 0;
    size_t i;

    if (strlen(serial) > 64) {
        error_setg(errp, "a serial number has 64 characters at most");
        return false;
    }
    *at++ = 0x82;
    stw_le_p(at, strlen(name));
    at = append(at + 2, name, strlen(name));
    *at++ = 0x90;
    fields = at + 2;
    at = append_field(fields, "PN", "mlx5-emu");
    at = append_field(at, "SN", serial);
    at = append(at, "RV\1", 3);
    /* All bytes up to this one give 0. */
    for (i = 0; i < at - vpd->bytes; i++) {
        sum += vpd->bytes[i];
    }
    stw_le_p(fields - 2, at + 1 - fields);
    sum += fields[-2] + fields[-1];
    *at++ = -sum;
    *at++ = 0x78;
    vpd->len = at - vpd->bytes;
    return true;
}

/* The address was written: reads four bytes, or takes four and forgets them. */
static void vpd_access(PCIDevice *dev, const struct vpd *vpd)
{
    uint8_t *cap = dev->config + VPD_CAP;
    uint16_t addr = pci_get_word(cap + PCI_VPD_ADDR);
    uint8_t bytes[4];
    int i;

    if (addr & PCI_VPD_ADDR_F) {
        pci_set_word(cap + PCI_VPD_ADDR, addr & PCI_VPD_ADDR_MASK);
        return;
    }
    for (i = 0; i < 4; i++) {
        bytes[i] = addr + i < vpd->len ? vpd->bytes[addr + i] : 0xff;
    }
    memcpy(cap + PCI_VPD_DATA, bytes, 4);
    pci_set_word(cap + PCI_VPD_ADDR, addr | PCI_VPD_ADDR_F);
}

/*
 * Whoever writes what the counter has, while nobody holds the semaphore, holds
 * it until 0 is written. The status of each space says that there is none.
 */
static void gateway_semaphore(PCIDevice *dev, uint32_t old)
{
    uint8_t *semaphore = dev->config + GATEWAY_SEMAPHORE;
    uint8_t *counter = dev->config + GATEWAY_COUNTER;
    uint32_t new = pci_get_long(semaphore);
    uint32_t next = pci_get_long(counter);

    if (new && (old || new != next)) {
        pci_set_long(semaphore, old);
    } else if (new) {
        /* 0 is for nobody. */
        pci_set_long(counter, next + 1 ? next + 1 : 1);
    }
}

static void gateway_reset(PCIDevice *dev)
{
    pci_set_long(dev->config + GATEWAY_CONTROL, 0);
    pci_set_long(dev->config + GATEWAY_COUNTER, 1);
    pci_set_long(dev->config + GATEWAY_SEMAPHORE, 0);
}

static bool pf_capabilities_init(PCIDevice *dev, MemoryRegion *bar,
                                 uint16_t vectors, Error **errp)
{
    /* Each is put before those that there are. */
    if (pci_pm_init(dev, PM_CAP, errp) < 0) {
        return false;
    }
    pci_set_word(dev->config + PM_CAP + PCI_PM_PMC, PM_VERSION);
    /* Nothing is lost in D3hot. */
    pci_set_word(dev->config + PM_CAP + PCI_PM_CTRL,
                 PCI_PM_CTRL_NO_SOFT_RESET);
    pci_set_word(dev->wmask + PM_CAP + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);

    if (pci_add_capability(dev, PCI_CAP_ID_VNDR, GATEWAY_CAP, GATEWAY_LEN,
                           errp) < 0) {
        return false;
    }
    dev->config[GATEWAY_CAP + PCI_CAP_FLAGS] = GATEWAY_LEN;
    pci_set_long(dev->wmask + GATEWAY_CONTROL, GATEWAY_SPACE);
    pci_set_long(dev->wmask + GATEWAY_SEMAPHORE, UINT32_MAX);

    if (!vectors_init(dev, bar, vectors, errp)) {
        return false;
    }
    if (pci_add_capability(dev, PCI_CAP_ID_VPD, VPD_CAP, PCI_CAP_VPD_SIZEOF,
                           errp) < 0) {
        return false;
    }
    pci_set_word(dev->wmask + VPD_CAP + PCI_VPD_ADDR, UINT16_MAX);
    pci_set_long(dev->wmask + VPD_CAP + PCI_VPD_DATA, UINT32_MAX);

    if (!express_init(dev, errp)) {
        return false;
    }
    pcie_cap_fill_link_ep_usp(dev, QEMU_PCI_EXP_LNK_X16,
                              QEMU_PCI_EXP_LNK_16GT);
    pcie_cap_deverr_init(dev);
    pci_word_test_and_set_mask(dev->wmask + PCIE_CAP + PCI_EXP_DEVCTL,
                               DEVCTL_WRITABLE);
    pci_long_test_and_set_mask(dev->config + PCIE_CAP + PCI_EXP_DEVCAP2,
                               DEVCAP2_10BIT_TAGS |
                               PCI_EXP_DEVCAP2_ATOMIC_COMP32 |
                               PCI_EXP_DEVCAP2_ATOMIC_COMP64 |
                               PCI_EXP_DEVCAP2_ATOMIC_COMP128);
    return true;
}

bool pf_config_init(PCIDevice *dev, MemoryRegion *bar,
                    const struct pf_config *config, struct vpd *vpd,
                    Error **errp)
{
    if (!vpd_init(vpd, config->serial, errp) ||
        !pf_capabilities_init(dev, bar, config->vectors, errp)) {
        return false;
    }
    /* Each is put behind those that there are. */
    if (pcie_aer_init(dev, PCI_ERR_VER, AER_CAP, PCI_ERR_SIZEOF, errp) < 0) {
        return false;
    }
    pcie_ari_init(dev, ARI_CAP);
    if (!pcie_sriov_pf_init(dev, SRIOV_CAP, config->vf_type, CONNECTX_VF,
                            config->vfs, config->vfs, VF_OFFSET, VF_STRIDE,
                            errp)) {
        return false;
    }
    pcie_sriov_pf_add_sup_pgsize(dev, VF_PAGE_SIZES);
    pcie_add_capability(dev, PCI_EXT_CAP_ID_SECPCI, 1, SECONDARY_PCIE_CAP,
                        SECONDARY_PCIE_LEN);
    pcie_acs_init(dev, ACS_CAP);
    return true;
}

void pf_config_exit(PCIDevice *dev, MemoryRegion *bar)
{
    pcie_sriov_pf_exit(dev);
    pcie_aer_exit(dev);
    pcie_cap_exit(dev);
    msix_uninit(dev, bar, bar);
}

void pf_config_reset(PCIDevice *dev)
{
    uint8_t *devctl = dev->config + PCIE_CAP + PCI_EXP_DEVCTL;

    pcie_sriov_pf_reset(dev);
    pcie_acs_reset(dev);
    /* A reset that this register asked for clears its bit itself. */
    pci_set_word(devctl, (pci_get_word(devctl) & PCI_EXP_DEVCTL_BCR_FLR) |
                         DEVCTL_RESET);
    gateway_reset(dev);
}

uint32_t pf_config_do_read(PCIDevice *dev, uint32_t addr, int len)
{
    /*
     * QEMU 10.0 resets four bytes more than there are of the SR-IOV
     * capability, behind the back of the device: the header that comes next.
     */
    pci_set_long(dev->config + SECONDARY_PCIE_CAP, SECONDARY_PCIE_HEADER);
    return pci_default_read_config(dev, addr, len);
}

void pf_config_do_write(PCIDevice *dev, const struct vpd *vpd, uint32_t addr,
                        uint32_t val, int len)
{
    uint32_t semaphore = pci_get_long(dev->config + GATEWAY_SEMAPHORE);

    pci_default_write_config(dev, addr, val, len);
    pcie_aer_write_config(dev, addr, val, len);
    if (ranges_overlap(addr, len, GATEWAY_SEMAPHORE, 4)) {
        gateway_semaphore(dev, semaphore);
    }
    if (range_covers_byte(addr, len, VPD_CAP + PCI_VPD_ADDR + 1)) {
        vpd_access(dev, vpd);
    }
    pcie_cap_flr_write_config(dev, addr, val, len);
    /* Of the VFs, pci_default_write_config() takes care. */
}

bool vf_config_init(PCIDevice *dev, MemoryRegion *bar, uint16_t vectors,
                    Error **errp)
{
    if (!vectors_init(dev, bar, vectors, errp) ||
        !express_init(dev, errp)) {
        return false;
    }
    /* On an adapter, this hides what stands here in the PF. */
    pcie_add_capability(dev, PCI_EXT_CAP_ID_VNDR, 1, HIDDEN_CAP, HIDDEN_LEN);
    pci_set_long(dev->config + HIDDEN_CAP + 4, HIDDEN_LEN << 20);
    pcie_ari_init(dev, ARI_CAP);
    return true;
}

void vf_config_exit(PCIDevice *dev, MemoryRegion *bar)
{
    pcie_cap_exit(dev);
    msix_uninit(dev, bar, bar);
}

void vf_config_do_write(PCIDevice *dev, uint32_t addr, uint32_t val, int len)
{
    pci_default_write_config(dev, addr, val, len);
    pcie_cap_flr_write_config(dev, addr, val, len);
}
