/* SPDX-License-Identifier: GPL-2.0 */
/* The model, as src/ffi.rs defines it. */

#ifndef MLX5_EMU_H
#define MLX5_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mlx5_emu_callbacks {
    void *opaque;
    int (*dma)(void *opaque, uint16_t function, uint64_t addr, void *buf,
               uint64_t len, bool write);
    bool (*is_bus_master)(void *opaque, uint16_t function);
    void (*interrupt)(void *opaque, uint16_t function, uint16_t vector);
    uint64_t (*now)(void *opaque);
    void (*wake_at)(void *opaque, uint64_t time);
    void (*send)(void *opaque, const uint8_t *frame, uint64_t len);
};

struct mlx5_emu_properties {
    uint16_t vfs;
    uint16_t vf_vectors;
    uint32_t init_pages;
    bool network;
    uint8_t mac[6];
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
    const char *faults;
    const char *event_log;
    const char *violations_log;
};

struct mlx5_emu;

/* NULL if a property has a value that is none. */
struct mlx5_emu *mlx5_emu_new(const struct mlx5_emu_properties *properties,
                              struct mlx5_emu_callbacks callbacks);
void mlx5_emu_free(struct mlx5_emu *emu);
uint32_t mlx5_emu_read(struct mlx5_emu *emu, uint16_t function,
                       uint64_t offset);
void mlx5_emu_write(struct mlx5_emu *emu, uint16_t function, uint64_t offset,
                    uint32_t value);
uint32_t mlx5_emu_control_read(struct mlx5_emu *emu, uint64_t offset);
void mlx5_emu_control_write(struct mlx5_emu *emu, uint64_t offset,
                            uint32_t value);
void mlx5_emu_reset(struct mlx5_emu *emu, uint16_t function);
void mlx5_emu_receive(struct mlx5_emu *emu, const uint8_t *frame, size_t len);
void mlx5_emu_set_link(struct mlx5_emu *emu, bool up);
void mlx5_emu_timer(struct mlx5_emu *emu);

#endif /* MLX5_EMU_H */
