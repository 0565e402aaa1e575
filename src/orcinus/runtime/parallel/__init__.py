"""One model on several devices: tensor ranks share each layer, stages share out the layers (Orca, section 4.1)."""
