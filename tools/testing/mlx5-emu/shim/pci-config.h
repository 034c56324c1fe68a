/* SPDX-License-Identifier: GPL-2.0 */
/* The configuration space of the PF and of its VFs. */

#ifndef MLX5_EMU_PCI_CONFIG_H
#define MLX5_EMU_PCI_CONFIG_H

#include "hw/pci/pci_device.h"

#define CONNECTX_VF 0x101e

/* Vital product data of the PF. */
struct vpd {
    uint8_t bytes[256];
    size_t len;
};

/* What differs between PFs. */
struct pf_config {
    const char *vf_type;
    uint16_t vfs;
    uint16_t vectors;
    const char *serial;
};

/* Adds the PF's capabilities, of which that of MSI-X needs its BAR. */
bool pf_config_init(PCIDevice *dev, MemoryRegion *bar,
                    const struct pf_config *config, struct vpd *vpd,
                    Error **errp);
void pf_config_exit(PCIDevice *dev, MemoryRegion *bar);
void pf_config_reset(PCIDevice *dev);
uint32_t pf_config_do_read(PCIDevice *dev, uint32_t addr, int len);
void pf_config_do_write(PCIDevice *dev, const struct vpd *vpd, uint32_t addr,
                        uint32_t val, int len);

/* Adds a VF's capabilities. */
bool vf_config_init(PCIDevice *dev, MemoryRegion *bar, uint16_t vectors,
                    Error **errp);
void vf_config_exit(PCIDevice *dev, MemoryRegion *bar);
void vf_config_do_write(PCIDevice *dev, uint32_t addr, uint32_t val, int len);

#endif /* MLX5_EMU_PCI_CONFIG_H */
