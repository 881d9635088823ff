//! Where a frame is: its address, as if its mapping were at the address of its first placement.
//!
//! Not here: frames of languages, which have no address (`frames`).

use super::{
    images::{Images, KERNEL, UNMAPPED},
    space::Space,
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    capture::collector::Place,
    sampler::KernelStack,
    unwind::{Frame, Module},
};

/// The places of kernel frames, leaf first.
pub fn kernel_places(stack: KernelStack<'_>) -> impl Iterator<Item = Place> {
    stack.addresses().enumerate().map(|(depth, address)| {
        // The leaf is where the kernel was interrupted, the others are return addresses.
        let frame = if depth == 0 { FrameAddr::Pc(address) } else { FrameAddr::Return(address) };
        Place { mapping: KERNEL, address: frame.lookup().0 }
    })
}

/// The place of a frame of this process.
pub fn place(frame: &Frame, space: &Space, images: &Images) -> Place {
    let address = frame.addr.lookup();
    place_at(frame.module.and_then(|_| space.modules.find(address)), address, images)
}

/// The place of an address in `module`, the module that holds it.
pub fn place_at(module: Option<&Module>, address: RuntimeAddr, images: &Images) -> Place {
    match module {
        Some(module) => {
            let first = images.placement(module.id);
            Place { mapping: module.id, address: module.elf_addr(address).0.wrapping_add(first.bias) }
        }
        None => Place { mapping: UNMAPPED, address: address.0 },
    }
}
